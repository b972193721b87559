package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/cli/screen"
	"leasehold/internal/printable"
	"leasehold/partitioner"
	"leasehold/worker/header"
)

func (a *App) explainCommand() *cobra.Command {
	var format string
	var isKey bool
	cmd := &cobra.Command{
		Use:   "explain TOPIC KEY|ID",
		Short: "Show where a key or message is and what is blocking it",
		Long: "For a key: its partition, and per group who owns that, how far it is, and what holds it up. For a message, by its id\n" +
			"(topic/partition/sequence) or its sequence alone, also what each group has made of it: waiting and behind how many\n" +
			"others, being handled, done, or a dead letter. A number is taken for a sequence; --key says that it is a key.",
		Example: "  leasehold explain orders c-17\n  leasehold explain orders orders/3/1007\n  leasehold explain orders 1007 -o json\n  leasehold explain orders 1007 --key",
		Args:    cobra.ExactArgs(2),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			client, err := a.client(cmd)
			if err != nil {
				return err
			}
			x, err := explainer{client}.explain(cmd.Context(), args[0], args[1], isKey)
			if err != nil {
				return err
			}
			return a.printExplanation(x, format)
		}),
	}
	addTable(cmd, &format)
	cmd.Flags().BoolVar(&isKey, "key", false, "treat the argument as a key, whatever it looks like")
	return cmd
}

// explanation is the answer.
type explanation struct {
	V         int          `json:"v"`
	Topic     string       `json:"topic"`
	Partition *int         `json:"partition"` // null if not known: of a sequence that is not stored.
	Key       string       `json:"key"`       // As it stands in the subject; "" if not known.
	Stored    bool         `json:"stored"`    // The topic holds the message, or a message of the key.
	Seq       uint64       `json:"seq,omitempty"`
	Message   *api.Message `json:"message,omitempty"` // If one was asked for and is stored.
	NotStored string       `json:"not_stored,omitempty"`
	Groups    []groupView  `json:"groups"`
}

// groupView is a partition as one group sees it.
type groupView struct {
	Group string `json:"group"`
	api.Partition
	Place  string  `json:"place,omitempty"`  // Where the message is for the group: one of the places.
	Before *uint64 `json:"before,omitempty"` // Messages that the group handles before it, if it waits and they are known.
	Note   string  `json:"note,omitempty"`   // Place, for people.
}

// Places of a message for a group.
const (
	placeBeforeStart = "before_start" // The group began behind it.
	placeDone        = "done"
	placeDeadLetter  = "dead_letter"
	placeHandling    = "handling"
	placeHeld        = "held_up" // It is the group's next one, and does not get through.
	placeWaiting     = "waiting"
	placeOtherGroup  = "other_group" // It was requeued for another group alone.
)

// explainer asks an agent.
type explainer struct{ client *api.Client }

// target is what is to be explained.
type target struct {
	key       string
	seq       uint64 // 0: the key.
	partition int    // -1: not known.
	stored    bool
}

func (x explainer) explain(ctx context.Context, topic, what string, isKey bool) (*explanation, error) {
	info, err := x.client.Topic(ctx, topic)
	if err != nil {
		return nil, err
	}
	t := topicOf(info)
	aim, err := aimAt(t, what, isKey)
	if err != nil {
		return nil, err
	}
	if aim.seq == 0 {
		if aim, err = x.findKey(ctx, topic, what); err != nil {
			return nil, err
		}
	}
	e := &explanation{V: api.Version, Topic: topic, Key: aim.key, Seq: aim.seq, Stored: aim.stored, Groups: []groupView{}}
	if aim.seq > 0 {
		if err := x.findMessage(ctx, e, &aim); err != nil {
			return nil, err
		}
	}
	if aim.partition < 0 {
		return e, nil
	}
	e.Partition = &aim.partition
	return e, x.addGroups(ctx, e)
}

// aimAt reads the argument. What is neither an id nor a sequence is the name of a key, which findKey reads.
func aimAt(t partitioner.Topic, what string, isKey bool) (target, error) {
	if !isKey {
		if seq, err := strconv.ParseUint(what, 10, 64); err == nil && seq > 0 {
			return target{seq: seq, partition: -1}, nil
		}
		if rest, ok := strings.CutPrefix(what, t.Name+"/"); ok {
			partition, seq, _ := strings.Cut(rest, "/")
			p, err1 := strconv.Atoi(partition)
			s, err2 := strconv.ParseUint(seq, 10, 64)
			if err1 == nil && err2 == nil && s > 0 {
				if p < 0 || p >= t.Partitions {
					return target{}, usage("%s: topic %s has the partitions 0 to %d", what, t.Name, t.Partitions-1)
				}
				return target{seq: s, partition: p}, nil
			}
		}
	}
	return target{}, nil
}

// findKey asks which key is meant.
func (x explainer) findKey(ctx context.Context, topic, name string) (target, error) {
	k, err := x.client.Key(ctx, topic, name)
	if err != nil {
		return target{}, err
	}
	return target{key: k.Key, partition: k.Partition, stored: k.Stored}, nil
}

// findMessage looks the message up. One that is not stored has no key, and a partition only if its id says so.
func (x explainer) findMessage(ctx context.Context, e *explanation, aim *target) error {
	m, err := x.client.Message(ctx, e.Topic, aim.seq)
	if errors.Is(err, api.ErrNotFound) {
		e.NotStored = strings.TrimPrefix(err.Error(), api.ErrNotFound.Error()+": ")
		return nil
	}
	if err != nil {
		return err
	}
	if aim.partition >= 0 && aim.partition != m.Partition {
		return failure(exitNotFound, "", "message %d of topic %s is in partition %d: its id is %s", m.Seq, e.Topic, m.Partition, m.ID)
	}
	e.Message, e.Stored, e.Key, aim.partition = m, true, m.Key, m.Partition
	return nil
}

// addGroups adds how each group of the topic sees the partition, and the message if it is stored.
func (x explainer) addGroups(ctx context.Context, e *explanation) error {
	status, err := x.client.Status(ctx)
	if err != nil {
		return err
	}
	if !status.Quorum && status.NoQuorum != "" { // Who owned the partition last says nothing of who handles it.
		return noQuorum(errors.New(status.NoQuorum))
	}
	starts, err := x.starts(ctx, e)
	if err != nil {
		return err
	}
	for _, g := range status.Groups {
		if g.Topic != e.Topic {
			continue
		}
		for _, p := range g.Partitions {
			if p.Partition != *e.Partition {
				continue
			}
			view := groupView{Group: g.Name, Partition: p}
			if e.Message != nil {
				if err := x.locate(ctx, &view, e.Message, starts[g.Name]); err != nil {
					return err
				}
			}
			e.Groups = append(e.Groups, view)
		}
	}
	return nil
}

// starts is up to where messages were never a group's, by group.
func (x explainer) starts(ctx context.Context, e *explanation) (map[string]uint64, error) {
	if e.Message == nil {
		return nil, nil
	}
	list, err := x.client.Groups(ctx)
	if err != nil {
		return nil, err
	}
	starts := map[string]uint64{}
	for _, g := range list.Groups {
		starts[g.Name] = g.StartAfter
	}
	return starts, nil
}

// locate finds where a message is for a group.
func (x explainer) locate(ctx context.Context, v *groupView, m *api.Message, start uint64) error {
	only := onlyGroup(m)
	switch {
	case only != "" && only != v.Group:
		v.Place, v.Note = placeOtherGroup, "not the group's: it was requeued for group "+only+" alone"
		return nil
	case m.Seq <= start:
		v.Place, v.Note = placeBeforeStart, fmt.Sprintf("not the group's: it began behind sequence %d", start)
		return nil
	case m.Seq <= v.Done:
		return x.locateDone(ctx, v, m)
	}
	before, err := x.client.Count(ctx, m.Topic, api.CountOptions{Partition: m.Partition, After: v.Done, Before: m.Seq})
	if err != nil && !errors.Is(err, api.ErrNotYet) {
		return err
	}
	if err == nil {
		v.Before = &before
	}
	v.Place, v.Note = ahead(v)
	return nil
}

// onlyGroup is the only group that a message is for, empty if it is for all.
func onlyGroup(m *api.Message) string {
	if values := m.Headers[header.OnlyGroup]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// locateDone tells a message that was handled from one that was set aside.
func (x explainer) locateDone(ctx context.Context, v *groupView, m *api.Message) error {
	v.Place, v.Note = placeDone, "done"
	f := api.LetterFilter{Partition: &m.Partition, Key: exactName(m.Key)}
	return eachLetter(ctx, x.client, v.Group, f, func(l api.Letter) (more bool, err error) {
		if l.Seq != m.Seq {
			return true, nil
		}
		v.Place = placeDeadLetter
		v.Note = fmt.Sprintf("dead letter %d (%s): `leasehold dlq show %s %d`", l.Number, l.Reason, v.Group, l.Number)
		return false, nil
	})
}

// ahead is where a message is that the group has not finished.
func ahead(v *groupView) (place, note string) {
	switch {
	case v.Before == nil:
		return placeWaiting, "waiting; how many are before it is not known at the moment"
	case *v.Before > 0:
		return placeWaiting, fmt.Sprintf("waiting behind %s", count(int(*v.Before), "message"))
	case v.State == stateHeld:
		return placeHandling, "being handled"
	}
	note = "next; the partition is " + v.State
	if v.Attempt > 0 {
		note += " after " + count(v.Attempt, "failed call")
	}
	if v.RetryAt != "" {
		note += ", tried again at " + clockTime(v.RetryAt)
	}
	return placeHeld, note
}

// stateHeld is the state of a partition that goes on.
const stateHeld = "held"

func (a *App) printExplanation(e *explanation, format string) error {
	if format == formatJSON {
		return printJSON(a.Out, e)
	}
	switch {
	case e.NotStored != "":
		fmt.Fprintln(a.Out, e.NotStored)
	case e.Message != nil:
		m := e.Message
		_ = screen.Of(a.Out).Fit(fmt.Sprintf("message %s of key %s, stored %s, %s: %s", m.ID, partitioner.KeyName(e.Key), storedText(m.Time),
			humanize.IBytes(uint64(len(m.Bytes()))), payloadText(m))) // The table tells whether writing works.
	default:
		fmt.Fprintf(a.Out, "key %s is in partition %d of topic %s%s\n", printable.Line(partitioner.KeyName(e.Key)), *e.Partition, e.Topic, keyStoredText(e.Stored))
	}
	if len(e.Groups) == 0 && e.Partition != nil {
		fmt.Fprintln(a.Out, "no group that a live node serves reads this topic")
	}
	err := section(a.Out, table.Row{
		"group", "partition", "owner", screen.Wide("epoch"), "state", "done", "lag", "attempt", screen.Whole("error"), screen.Whole("message"),
	}, explainedRows(e.Groups))
	for _, g := range e.Groups {
		for _, step := range groupSteps(api.Group{Name: g.Group, Partitions: []api.Partition{g.Partition}}) {
			err = errors.Join(err, screen.Of(a.Out).Say(screen.Strong, "Next:", step))
		}
	}
	return err
}

// storedText is when a message was stored: its time and how long ago that was.
func storedText(stored string) string {
	at, err := time.Parse(time.RFC3339Nano, stored)
	if err != nil {
		return stored
	}
	return clockTime(stored) + " (" + screen.Ago(at, time.Now()) + ")"
}

func keyStoredText(stored bool) string {
	if stored {
		return ""
	}
	return ", which holds no message of it"
}

func explainedRows(groups []groupView) []table.Row {
	rows := make([]table.Row, 0, len(groups))
	for _, g := range groups {
		rows = append(rows, table.Row{
			g.Group, g.Partition.Partition, cmp.Or(g.Owner, "nobody"), g.Epoch, laneCell(g.Partition), g.Done, lagCell(g.Lag), g.Attempt, whyStopped(g.Partition), g.Note,
		})
	}
	return rows
}
