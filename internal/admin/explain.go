package admin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"leasehold/internal/api"
	"leasehold/internal/plural"
	"leasehold/partitioner"
	"leasehold/worker/header"
	"leasehold/worker/lane"
)

// Sources is what an explanation is put together from.
type Sources interface {
	Topic(name string) (api.TopicInfo, bool)
	Status(ctx context.Context) (*api.Status, error)
	Key(ctx context.Context, topic, name string) (*api.KeyInfo, error)
	Message(ctx context.Context, topic string, seq uint64) (*api.Message, error)
	Count(ctx context.Context, topic string, o api.CountOptions) (uint64, error)
	GroupList(ctx context.Context) (*api.GroupList, error)
	DeadLetters(ctx context.Context, group string, f api.LetterFilter) (*api.LetterList, error)
}

// Explainer says where a key or a message is for each group, and what is blocking it.
type Explainer struct{ Sources }

// explained is what an explanation is of.
type explained struct {
	key       string
	seq       uint64 // 0: the key.
	partition int    // -1: not known.
	stored    bool
}

// Explain explains a key, or a message by its id or its sequence.
func (x Explainer) Explain(ctx context.Context, topic string, of api.ExplainTarget) (*api.Explanation, error) {
	info, ok := x.Topic(topic)
	if !ok {
		return nil, api.Mark(api.ErrNotFound, fmt.Sprintf("there is no topic %q here", topic))
	}
	target, err := parseTarget(info, of)
	if err != nil {
		return nil, err
	}
	if target.seq == 0 {
		if target, err = x.findKey(ctx, topic, of.Of); err != nil {
			return nil, err
		}
	}
	e := &api.Explanation{
		V: api.Version, Topic: topic, Key: target.key, Seq: target.seq, Stored: target.stored, Groups: []api.ExplainedGroup{},
	}
	if target.seq > 0 {
		if err := x.findMessage(ctx, e, &target); err != nil {
			return nil, err
		}
	}
	if target.partition < 0 {
		return e, nil
	}
	e.Partition = &target.partition
	return e, x.addGroups(ctx, e)
}

// parseTarget reads what is to be explained. What is neither an id nor a sequence is the name of a key, which findKey
// reads.
func parseTarget(t api.TopicInfo, of api.ExplainTarget) (explained, error) {
	if of.IsKey {
		return explained{}, nil
	}
	if seq, err := strconv.ParseUint(of.Of, 10, 64); err == nil && seq > 0 {
		return explained{seq: seq, partition: -1}, nil
	}
	if rest, ok := strings.CutPrefix(of.Of, t.Name+"/"); ok {
		partition, seq, _ := strings.Cut(rest, "/")
		p, err1 := strconv.Atoi(partition)
		s, err2 := strconv.ParseUint(seq, 10, 64)
		if err1 == nil && err2 == nil && s > 0 {
			if p < 0 || p >= t.Partitions {
				return explained{}, api.Mark(api.ErrBadRequest, fmt.Sprintf("%s: topic %s has the partitions 0 to %d", of.Of,
					t.Name, t.Partitions-1))
			}
			return explained{seq: s, partition: p}, nil
		}
	}
	return explained{}, nil
}

// findKey finds which key is meant.
func (x Explainer) findKey(ctx context.Context, topic, name string) (explained, error) {
	k, err := x.Key(ctx, topic, name)
	if err != nil {
		return explained{}, err
	}
	return explained{key: k.Key, partition: k.Partition, stored: k.Stored}, nil
}

// findMessage looks the message up. One that is not stored has no key, and a partition only if its id says so.
func (x Explainer) findMessage(ctx context.Context, e *api.Explanation, target *explained) error {
	m, err := x.Message(ctx, e.Topic, target.seq)
	if errors.Is(err, api.ErrNotFound) {
		e.NotStored = strings.TrimPrefix(err.Error(), api.ErrNotFound.Error()+": ")
		return nil
	}
	if err != nil {
		return err
	}
	if target.partition >= 0 && target.partition != m.Partition {
		return api.Mark(api.ErrNotFound, fmt.Sprintf("message %d of topic %s is in partition %d: its id is %s", m.Seq,
			e.Topic, m.Partition, m.ID))
	}
	e.Message, e.Stored, e.Key, target.partition = m, true, m.Key, m.Partition
	return nil
}

// addGroups adds how each group of the topic sees the partition, and the message if it is stored.
func (x Explainer) addGroups(ctx context.Context, e *api.Explanation) error {
	status, err := x.Status(ctx)
	if err != nil {
		return err
	}
	if !status.Quorum && status.NoQuorum != "" { // Who owned the partition last says nothing of who handles it.
		return api.Mark(api.ErrNoQuorum, status.NoQuorum)
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
			view := api.ExplainedGroup{Group: g.Name, Partition: p}
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
func (x Explainer) starts(ctx context.Context, e *api.Explanation) (map[string]uint64, error) {
	if e.Message == nil {
		return nil, nil
	}
	list, err := x.GroupList(ctx)
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
func (x Explainer) locate(ctx context.Context, v *api.ExplainedGroup, m *api.Message, start uint64) error {
	only := OnlyGroup(m)
	switch {
	case only != "" && only != v.Group:
		v.Place, v.Note = api.PlaceOtherGroup, "not the group's: it was requeued for group "+only+" alone"
		return nil
	case m.Seq <= start:
		v.Place, v.Note = api.PlaceBeforeStart, fmt.Sprintf("not the group's: it began behind sequence %d", start)
		return nil
	case m.Seq <= v.Done:
		return x.locateDone(ctx, v, m)
	}
	before, err := x.Count(ctx, m.Topic, api.CountOptions{Partition: m.Partition, After: v.Done, Before: m.Seq})
	if err != nil && !errors.Is(err, api.ErrNotYet) {
		return err
	}
	if err == nil {
		v.Before = &before
	}
	v.Place, v.Note = ahead(v)
	return nil
}

// OnlyGroup is the only group that a message is for, "" if it is for all.
func OnlyGroup(m *api.Message) string {
	if values := m.Headers[header.OnlyGroup]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// locateDone tells a message that was handled from a dead letter.
func (x Explainer) locateDone(ctx context.Context, v *api.ExplainedGroup, m *api.Message) error {
	v.Place, v.Note = api.PlaceDone, "done"
	f := api.LetterFilter{Partition: &m.Partition, Key: m.Key, Seq: m.Seq}
	if !partitioner.LetterKey(m.Key).Hashed() {
		f.Key = partitioner.ExactKeyName(m.Key)
	}
	page, err := x.DeadLetters(ctx, v.Group, f)
	if err != nil {
		return err
	}
	for _, l := range page.Letters {
		v.Place = api.PlaceDeadLetter
		v.Note = fmt.Sprintf("dead letter %d (%s): `leasehold dlq show %s %d`", l.Number, l.Reason, v.Group, l.Number)
	}
	return nil
}

// ahead is where a message is that the group has not finished.
func ahead(v *api.ExplainedGroup) (place, note string) {
	switch {
	case v.Before == nil:
		return api.PlaceWaiting, "waiting; how many are before it is not known at the moment"
	case *v.Before > 0:
		return api.PlaceWaiting, fmt.Sprintf("waiting behind %s", plural.Of(*v.Before, "message"))
	case v.State == lane.StateHeld:
		return api.PlaceHandling, "being handled"
	}
	note = "next; the partition is " + v.State
	if v.Attempt > 0 {
		note += " after " + plural.Of(v.Attempt, "failed call")
	}
	if v.RetryAt != "" {
		note += ", tried again at " + v.RetryAt
	}
	return api.PlaceHeldUp, note
}
