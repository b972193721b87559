// Package admin answers what operators ask of a node over HTTP, and carries out what they command: it implements the
// interfaces of internal/api. What a node shows of its cluster comes from internal/status.
package admin

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/api"
	"leasehold/internal/membership"
	"leasehold/internal/status"
)

// publishFunc publishes messages and gives each a receipt.
type publishFunc func(ctx context.Context, topic string, messages []api.NewMessage) ([]api.Receipt, error)

// API is the node as callers over HTTP meet it. What needs a quorum says within three seconds that there is none, and
// no error uses the broker's language.
type API struct {
	*status.Reader
	gate     gate
	commands commands
	letters  deadLetters
	messages messages
	explain  Explainer
	publish  publishFunc
}

// New returns the API of a node that may not have started yet.
func New(v *status.View, publish publishFunc, log hclog.Logger) *API {
	log = log.Named("admin")
	m := messages{v}
	l := deadLetters{View: v, messages: m, log: log}
	c := commands{View: v, letters: l, log: log}
	a := &API{Reader: status.NewReader(v), gate: gate{v}, commands: c, letters: l, messages: m, publish: publish}
	a.explain = Explainer{a}
	return a
}

// RemoveNode takes a dead node out of the cluster.
func (a *API) RemoveNode(ctx context.Context, name string, dryRun bool) (*api.NodeRemoval, error) {
	return withMembership(ctx, a, func(ctx context.Context, m *membership.Membership) (*api.NodeRemoval, error) {
		return m.RemoveNode(ctx, name, dryRun)
	})
}

// RemoveGroup removes a group that no live node serves.
func (a *API) RemoveGroup(ctx context.Context, name string, dryRun bool) (*api.GroupRemoval, error) {
	return withMembership(ctx, a, func(ctx context.Context, m *membership.Membership) (*api.GroupRemoval, error) {
		return m.RemoveGroup(ctx, name, dryRun)
	})
}

// RemoveTopic removes a topic that no live node's config has.
func (a *API) RemoveTopic(ctx context.Context, name string, dryRun bool) (*api.TopicRemoval, error) {
	return withMembership(ctx, a, func(ctx context.Context, m *membership.Membership) (*api.TopicRemoval, error) {
		return m.RemoveTopic(ctx, name, dryRun)
	})
}

func withMembership[T any](ctx context.Context, a *API,
	do func(context.Context, *membership.Membership) (T, error)) (T, error) {
	return whileQuorum(ctx, a.gate, func(ctx context.Context) (T, error) {
		store, err := a.Store()
		if err != nil {
			var none T
			return none, err
		}
		return do(ctx, store.Membership)
	})
}

// GroupList lists every group that was ever defined.
func (a *API) GroupList(ctx context.Context) (*api.GroupList, error) {
	return whileQuorum(ctx, a.gate, a.Reader.GroupList)
}

// TopicList lists every topic that was ever defined.
func (a *API) TopicList(ctx context.Context) (*api.TopicList, error) {
	return whileQuorum(ctx, a.gate, a.Reader.TopicList)
}

// Ask records a command to a group.
func (a *API) Ask(ctx context.Context, group string, c api.Ask) (*api.Asked, error) {
	return whileQuorum(ctx, a.gate, func(ctx context.Context) (*api.Asked, error) {
		return a.commands.submit(ctx, group, c)
	})
}

// Asked says how far a command is, once it is applied everywhere or wait is over.
func (a *API) Asked(ctx context.Context, group string, id uint64, wait time.Duration) (*api.Asked, error) {
	return whileQuorum(ctx, a.gate, func(ctx context.Context) (*api.Asked, error) {
		return a.commands.await(ctx, group, id, wait)
	})
}

// DeadLetters lists a page of a group's dead letters.
func (a *API) DeadLetters(ctx context.Context, group string, f api.LetterFilter) (*api.LetterList, error) {
	if f.Local {
		return a.letters.listLocal(group, f)
	}
	return whileQuorum(ctx, a.gate, func(ctx context.Context) (*api.LetterList, error) {
		return a.letters.list(ctx, group, f)
	})
}

// Requeue publishes dead letters to their topic again, and then removes them.
func (a *API) Requeue(ctx context.Context, group string, o api.LetterOrder) (*api.LettersDone, error) {
	return whileQuorum(ctx, a.gate, func(ctx context.Context) (*api.LettersDone, error) {
		return a.letters.requeue(ctx, group, o)
	})
}

// Drop deletes dead letters. Partitions of which a parked one goes restart, for their owners know which keys are
// parked.
func (a *API) Drop(ctx context.Context, group string, o api.LetterOrder) (*api.LettersDone, error) {
	return whileQuorum(ctx, a.gate, func(ctx context.Context) (*api.LettersDone, error) {
		done, restart, err := a.letters.drop(ctx, group, o)
		if err == nil && len(restart) > 0 {
			_, err = a.commands.submit(ctx, group, api.Ask{Kind: restartKind, Partitions: restart})
		}
		return done, err
	})
}

// Key finds the key of a topic that an operator means by a name.
func (a *API) Key(ctx context.Context, topic, name string) (*api.KeyInfo, error) {
	return whileQuorum(ctx, a.gate, func(ctx context.Context) (*api.KeyInfo, error) {
		return a.messages.key(ctx, topic, name)
	})
}

// Message shows one stored message.
func (a *API) Message(ctx context.Context, topic string, seq uint64) (*api.Message, error) {
	return whileQuorum(ctx, a.gate, func(ctx context.Context) (*api.Message, error) {
		return a.messages.message(ctx, topic, seq)
	})
}

// Count counts messages of a partition between two sequences.
func (a *API) Count(ctx context.Context, topic string, o api.CountOptions) (uint64, error) {
	return whileQuorum(ctx, a.gate, func(ctx context.Context) (uint64, error) { return a.messages.count(ctx, topic, o) })
}

// Explain says where a key or a message is, and what is blocking it.
func (a *API) Explain(ctx context.Context, topic string, of api.ExplainTarget) (*api.Explanation, error) {
	return a.explain.Explain(ctx, topic, of)
}

// Publish is refused at once where no message could be acknowledged. One that is under way when the quorum is lost ends
// by itself: it may be stored.
func (a *API) Publish(ctx context.Context, topic string, messages []api.NewMessage) ([]api.Receipt, error) {
	if q := a.Quorum(); q.Lost() {
		return nil, noQuorum(q)
	}
	receipts, err := a.publish(ctx, topic, messages)
	return receipts, a.gate.explain(ctx, err)
}

// Tap ends with what is missing, unless it follows: that one waits longer than an election takes.
func (a *API) Tap(ctx context.Context, name string, o api.TapOptions) (api.MessageReader, error) {
	if o.Local {
		return a.messages.tapLocal(name, o)
	}
	if q := a.Quorum(); q.Lost() {
		return nil, noQuorum(q)
	}
	stop := func() {}
	if !o.Follow {
		ctx, stop = a.gate.untilQuorumIsLost(ctx)
	}
	reader, err := a.messages.tap(ctx, name, o)
	if err != nil {
		stop()
		return nil, a.gate.explain(ctx, err)
	}
	return explainedReader{reader: reader, gate: a.gate, ctx: ctx, stop: stop}, nil
}

// explainedReader is a tap whose errors are explained.
type explainedReader struct {
	reader api.MessageReader
	gate   gate
	ctx    context.Context // of the request; ended when the quorum is lost
	stop   func()
}

// Next reads by the reader's own context, which ends with the request as the caller's does.
//
//nolint:contextcheck // See above.
func (r explainedReader) Next(context.Context) (*api.Message, error) {
	m, err := r.reader.Next(r.ctx)
	return m, r.gate.explain(r.ctx, err)
}

func (r explainedReader) Close() {
	r.stop()
	r.reader.Close()
}
