package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"leasehold/internal/api"
	"leasehold/internal/brokererr"
	"leasehold/partitioner"
	"leasehold/server"
	"leasehold/worker"
)

// localReplica is what package worker reads of this node's own replica.
type localReplica struct{ *server.Replica }

func (r localReplica) Span() (first, last uint64) {
	state := r.State()
	return state.First, state.Last
}

func (r localReplica) Next(filter string, from uint64) (worker.ReplicaMessage, error) {
	m, err := r.Replica.Next(filter, from)
	if err != nil {
		return worker.ReplicaMessage{}, err
	}
	return worker.ReplicaMessage(*m), nil
}

// replica opens this node's own replica of a stream, of what an operator calls it.
func (n *Node) replica(stream, called string) (localReplica, error) {
	r, err := n.broker.Replica(stream)
	if errors.Is(err, server.ErrNoReplica) {
		return localReplica{}, api.Mark(api.ErrNotFound, fmt.Sprintf("node %s has no replica of %s: ask another node", n.Config.Node.Name, called))
	}
	if err != nil {
		return localReplica{}, api.Mark(api.ErrNotYet, brokererr.Text(err))
	}
	return localReplica{r}, nil
}

// localTap shows what this node itself holds of a topic.
func (n *Node) localTap(name string, o api.TapOptions) (api.MessageReader, error) {
	t, ok := n.Config.Topic(name)
	if !ok {
		return nil, api.Mark(api.ErrNotFound, fmt.Sprintf("there is no topic %q here", name))
	}
	opt := worker.TapOptions{Topic: t, From: o.FromSeq, Last: o.Last}
	if o.Since > 0 {
		opt.Since = time.Now().Add(-o.Since)
	}
	var err error
	if opt.Filter, err = tapFilter(t, o); err != nil {
		return nil, err
	}
	r, err := n.replica(name, "topic "+name)
	if err != nil {
		return nil, err
	}
	tap, err := worker.OpenLocalTap(r, opt)
	if err != nil {
		return nil, err
	}
	return localReader{tap}, nil
}

type localReader struct{ tap *worker.LocalTap }

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

// localLetters lists a page of what this node itself holds of a group's dead letters.
func (n *Node) localLetters(group string, f api.LetterFilter) (*api.LetterList, error) {
	r, err := n.replica(partitioner.DeadLetterStream(group), fmt.Sprintf("the dead letters of group %q", group))
	if err != nil {
		return nil, err
	}
	out := &api.LetterList{V: api.Version, Group: group, Replica: n.Config.Node.Name, Letters: []api.Letter{}}
	where, page := letterPage(f, out)
	if f.Stored > 0 {
		where, page = worker.LetterQuery{Partition: -1, After: f.Stored - 1}, func(l *worker.Letter) bool {
			if l.Stored == f.Stored {
				out.Letters = append(out.Letters, apiLetter(l, true))
			}
			return false
		}
	}
	out.Next, err = worker.ListLocal(r, group, where, page)
	if err == nil && f.Stored > 0 {
		if out.Next = 0; len(out.Letters) == 0 {
			return nil, letterError(worker.ErrNoLetter, f.Stored)
		}
	}
	return out, err
}
