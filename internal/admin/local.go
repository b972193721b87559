package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"leasehold/internal/api"
	"leasehold/internal/brokererr"
	"leasehold/internal/config"
	"leasehold/partitioner"
	"leasehold/server/replicas"
	"leasehold/worker/deadletter"
	"leasehold/worker/stream"
	"leasehold/worker/tap"
)

// localReplica is what package worker reads of this node's own replica.
type localReplica struct{ *replicas.Replica }

func (r localReplica) Span() (first, last uint64) {
	state := r.State()
	return state.First, state.Last
}

func (r localReplica) Next(filter string, from uint64) (stream.ReplicaMessage, error) {
	m, err := r.Replica.Next(filter, from)
	if err != nil {
		return stream.ReplicaMessage{}, err
	}
	return stream.ReplicaMessage(*m), nil
}

// has reports whether the replica holds a message with a subject that matches.
func (r localReplica) has(filter string) (bool, error) {
	_, err := r.Replica.Next(filter, 0)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	return err == nil, err
}

// letterKey is the key of the group's letters in this replica that an operator means by a name.
func (r localReplica) letterKey(c *config.Config, group, name string) (partitioner.LetterKey, error) {
	t, known := topicOfGroup(c, group)
	if !known && !partitioner.LetterKey(name).Hashed() && name != "" {
		return partitioner.NewLetterKey(name), nil
	}
	return letterKey(t, name, func(key string) (bool, error) {
		return r.has(partitioner.DeadLetterFilter(group, -1, "", partitioner.NewLetterKey(key)))
	})
}

// topicOfGroup is the topic of a group of this node's config.
func topicOfGroup(c *config.Config, group string) (partitioner.Topic, bool) {
	for _, g := range c.Groups {
		if g.Name == group {
			return c.Topic(g.Topic)
		}
	}
	return partitioner.Topic{}, false
}

// replica opens this node's own replica of a stream, of what an operator calls it.
func (m messages) replica(stream, called string) (localReplica, error) {
	r, err := m.Broker.Replica(stream)
	if errors.Is(err, replicas.ErrNoReplica) {
		return localReplica{}, api.Mark(api.ErrNotFound, fmt.Sprintf("node %s has no replica of %s: ask another node",
			m.Config.Node.Name, called))
	}
	if err != nil {
		return localReplica{}, api.Mark(api.ErrNotYet, brokererr.Text(err))
	}
	return localReplica{r}, nil
}

// tapLocal shows what this node itself holds of a topic.
func (m messages) tapLocal(name string, o api.TapOptions) (api.MessageReader, error) {
	t, ok := m.Config.Topic(name)
	if !ok {
		return nil, api.Mark(api.ErrNotFound, fmt.Sprintf("there is no topic %q here", name))
	}
	opt := tap.Options{Topic: t, From: o.FromSeq, Last: o.Last}
	if o.Since > 0 {
		opt.Since = time.Now().Add(-o.Since)
	}
	r, err := m.replica(name, "topic "+name)
	if err != nil {
		return nil, err
	}
	if opt.Filter, err = tapFilter(t, o, func(key string) (bool, error) { return r.has(t.KeyFilter(key)) }); err != nil {
		return nil, err
	}
	tap, err := tap.OpenReplica(r, opt)
	if err != nil {
		return nil, err
	}
	return localReader{tap}, nil
}

type localReader struct{ tap *tap.ReplicaTap }

func (r localReader) Next(ctx context.Context) (*api.Message, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	m, err := r.tap.Next()
	if err != nil {
		return nil, err
	}
	return messageOf(m), nil
}

func (r localReader) Close() {}

// listLocal lists a page of what this node itself holds of a group's dead letters.
func (d deadLetters) listLocal(group string, f api.LetterFilter) (*api.LetterList, error) {
	r, err := d.messages.replica(partitioner.DeadLetterStream(group), fmt.Sprintf("the dead letters of group %q", group))
	if err != nil {
		return nil, err
	}
	if t, known := topicOfGroup(d.Config, group); known && f.Partition != nil {
		if err := (groupRef{name: group, topic: t}).checkPartition(*f.Partition); err != nil {
			return nil, err
		}
	}
	out := &api.LetterList{V: api.Version, Group: group, Replica: d.Config.Node.Name, Letters: []api.Letter{}}
	where, page := localPage(f, out)
	if f.Stored == 0 {
		where.Key, err = r.letterKey(d.Config, group, f.Key)
	}
	if err != nil {
		return nil, err
	}
	out.Next, err = deadletter.ListReplica(r, group, where, page)
	if f.Stored > 0 || f.Seq > 0 {
		out.Next = 0
	}
	if err == nil && f.Stored > 0 && len(out.Letters) == 0 {
		return nil, letterError(deadletter.ErrNotFound, f.Stored)
	}
	return out, err
}

// localPage is letterPage that also finds the one letter with a number, or that of one message.
func localPage(f api.LetterFilter, out *api.LetterList) (deadletter.Query, func(*deadletter.Record) (more bool)) {
	where, page := letterPage(f, out)
	switch {
	case f.Stored > 0:
		return deadletter.Query{Partition: -1, After: f.Stored - 1}, func(l *deadletter.Record) bool {
			if l.Stored == f.Stored {
				out.Letters = append(out.Letters, apiLetter(l, true))
			}
			return false
		}
	case f.Seq > 0:
		return where, func(l *deadletter.Record) bool {
			if l.Seq == f.Seq {
				page(l)
			}
			return l.Seq != f.Seq
		}
	}
	return where, page
}
