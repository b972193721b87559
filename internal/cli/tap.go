package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"leasehold/internal/admin"
	"leasehold/internal/api"
	"leasehold/internal/cli/screen"
	"leasehold/internal/printable"
	"leasehold/partitioner"
)

type tapFlags struct {
	format    string
	partition int
	key       string
	last      int
	fromSeq   uint64
	since     string
	follow    bool
	local     bool
}

func (a *App) tapCommand() *cobra.Command {
	var f tapFlags
	cmd := &cobra.Command{
		Use:   "tap TOPIC",
		Short: "Look at a topic's messages without consuming them",
		Long: "Shows stored messages, the last 10 unless a flag says where to start, one line per message. With -o json, " +
			"each line is\n" +
			"the whole message as a JSON object, as handlers get it. No group's position moves. ^C ends --follow with code " +
			"0.\n" +
			"--local reads the replica on the disk of the node that is asked: it needs no quorum, and the newest messages may " +
			"be\n" +
			"missing from it.",
		Example: "  leasehold tap orders --follow\n  leasehold tap orders --key c-17 --last 3\n" +
			"  leasehold tap orders --since 10m -o json | jq -r .data\n  leasehold tap orders --partition 3 --from-seq 1007 " +
			"-o json\n" +
			"  leasehold tap orders --local --from-seq 1 -o json > orders.ndjson",
		Args: cobra.ExactArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			return a.runTap(cmd, args[0], f)
		}),
	}
	addOutput(cmd, &f.format)
	flags := cmd.Flags()
	numberVar(cmd, &f.partition, "partition", 0, 0, "only messages of this partition")
	flags.Var(word{&f.key}, "key", "only messages of this key: "+keyForms)
	numberVar(cmd, &f.last, "last", api.DefaultLast, 0, "start at the last N messages")
	flags.Uint64Var(&f.fromSeq, "from-seq", 0, "start at this sequence")
	flags.Var(word{&f.since}, "since", "start at messages stored since "+sinceHelp)
	flags.BoolVarP(&f.follow, "follow", "f", false, "continue with new messages as they arrive")
	cmd.MarkFlagsMutuallyExclusive("last", "from-seq", "since")
	flags.BoolVar(&f.local, "local", false, "read the node's own replica, without a quorum")
	cmd.MarkFlagsMutuallyExclusive("partition", "key")
	cmd.MarkFlagsMutuallyExclusive("local", "follow")
	return cmd
}

func (f tapFlags) options(cmd *cobra.Command) (api.TapOptions, error) {
	o := api.TapOptions{Key: f.key, FromSeq: f.fromSeq, Last: f.last, Follow: f.follow, Local: f.local}
	given := cmd.Flags().Changed
	if given("from-seq") && f.fromSeq == 0 {
		return o, usage("--from-seq: sequences begin at 1")
	}
	if f.since != "" {
		now := time.Now()
		at, err := parseSince(f.since, now)
		if err != nil {
			return o, err
		}
		o.Since = now.Sub(at)
	}
	if given("partition") {
		o.Partition = &f.partition
	}
	return o, nil
}

func (a *App) runTap(cmd *cobra.Command, topic string, f tapFlags) error {
	o, err := f.options(cmd)
	if err != nil {
		return err
	}
	client, err := a.client(cmd)
	if err != nil {
		return err
	}
	stream, err := client.Tap(cmd.Context(), topic, o)
	if err != nil {
		return err
	}
	defer stream.Close()
	if f.local {
		a.warnLocal()
	}
	if f.follow {
		defer a.tellQuorum(cmd.Context(), client, topic)()
	}
	show := a.showLine
	if f.format == formatJSON {
		show = a.showJSON
	}
	return a.showTap(cmd.Context(), stream, show)
}

// showTap shows messages until there are no more, or the operator has seen enough.
func (a *App) showTap(ctx context.Context, stream *api.MessageStream, show func(*api.Message) error) error {
	for shown := 0; ; shown++ {
		m, err := stream.Next()
		if shown == 0 && errors.Is(err, io.EOF) && isTerminal(a.Err) {
			fmt.Fprintln(a.Err, "no such message is stored")
		}
		if timedOut(ctx) {
			return ctx.Err()
		}
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := show(m); err != nil {
			return err
		}
	}
}

// warnLocal says what --local shows.
func (a *App) warnLocal() {
	fmt.Fprintln(a.Err, "Warning: this is the replica of one node, read without asking the others: the newest messages "+
		"may be missing, and what it shows may have been removed since")
}

func (a *App) showJSON(m *api.Message) error {
	_, err := a.Out.Write(jsonLine(m))
	return err
}

// showLine shows a message in one line: when, which, of which key, what.
func (a *App) showLine(m *api.Message) error {
	place := partitioner.KeyName(m.Key)
	if only := admin.OnlyGroup(m); only != "" {
		place = fmt.Sprintf("%s  (for group %s alone)", place, only)
	}
	return screen.Of(a.Out).Fit(fmt.Sprintf("%s  %s  %s  %s", clockTime(m.Time), m.ID, place, payloadText(m)))
}

// clockTime is a stored time in this machine's zone, with the day if it is not today.
func clockTime(stored string) string {
	at, err := time.Parse(time.RFC3339Nano, stored)
	if err != nil {
		return stored
	}
	at = at.Local()
	if at.Format(time.DateOnly) != time.Now().Format(time.DateOnly) {
		return at.Format("2006-01-02 15:04:05.000")
	}
	return at.Format("15:04:05.000")
}

// payloadText is a payload for people to see.
func payloadText(m *api.Message) string {
	if m.Data == nil {
		return "(" + humanize.Bytes(uint64(len(m.DataB64))) + ", not text)"
	}
	return printable.Line(*m.Data)
}
