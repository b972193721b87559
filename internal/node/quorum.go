package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"leasehold/internal/api"
	"leasehold/internal/brokererr"
	"leasehold/server"
)

// How long a question goes on without a majority, or without a leader, before it is answered with what is missing. Together
// with what it takes to notice, that is less than three seconds.
const (
	lostPatience   = 250 * time.Millisecond
	leaderPatience = 2 * time.Second
	quorumEvery    = 250 * time.Millisecond
)

// quorum is who answers. A broker that has not started yet misses nobody: it is the node that is starting.
func (n *Node) quorum() server.Quorum {
	select {
	case <-n.broker.Started():
		return n.broker.Quorum()
	default:
		return server.Quorum{Nodes: 1, Answer: 1, Leader: n.Config.Node.Name}
	}
}

// missedEvery is how often a node looks for its readiness who answers.
const missedEvery = time.Second

// missedQuorum remembers the last look.
type missedQuorum struct {
	at   time.Time
	text string // who is missing, "" while a majority answers
}

// before puts who is missing before the other reasons of a node that is not ready. It belongs to one goroutine.
func (m *missedQuorum) before(n *Node, reasons []string) []string {
	if now := time.Now(); now.Sub(m.at) >= missedEvery {
		m.at, m.text = now, ""
		if q := n.quorum(); q.Lost() {
			m.text = q.Text()
		}
	}
	if m.text == "" {
		return reasons
	}
	return append([]string{m.text}, reasons...)
}

func noQuorum(q server.Quorum) error { return api.Mark(api.ErrNoQuorum, q.Text()) }

// whileQuorum asks what needs a quorum. Without one it does not wait for answers that cannot come, and says who is missing.
func whileQuorum[T any](ctx context.Context, n *Node, ask func(context.Context) (T, error)) (T, error) {
	if q := n.quorum(); q.Lost() {
		var none T
		return none, noQuorum(q)
	}
	ctx, stop := n.untilQuorumIsLost(ctx)
	defer stop()
	v, err := ask(ctx)
	return v, n.explain(ctx, err)
}

// untilQuorumIsLost ends its context, with what is missing as the cause, once there has been no quorum for a moment. The
// goroutine ends with the context, which stop ends.
func (n *Node) untilQuorumIsLost(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		tick := time.NewTicker(quorumEvery)
		defer tick.Stop()
		var since time.Time
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			q := n.quorum()
			switch {
			case q.Working():
				since = time.Time{}
			case since.IsZero():
				since = time.Now()
			case time.Since(since) >= leaderPatience, q.Lost() && time.Since(since) >= lostPatience:
				cancel(noQuorum(q))
				return
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// explain says in our words why nobody answered.
func (n *Node) explain(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case err == nil:
		return nil
	case errors.Is(cause, api.ErrNoQuorum):
		return cause
	case errors.Is(err, api.ErrNoQuorum):
		return err
	case !brokererr.Unavailable(err) && !errors.Is(err, api.ErrNotYet):
		return err
	}
	if q := n.quorum(); !q.Working() {
		return noQuorum(q)
	}
	if errors.Is(err, api.ErrNotYet) {
		return err
	}
	return api.Mark(api.ErrNotYet, fmt.Sprintf("%s: its replicas may be electing a leader, try again in a moment", brokererr.Text(err)))
}

// public is the node as HTTP callers meet it: what needs a quorum says within three seconds that there is none, and no error
// speaks the broker's language.
type public struct{ *Node }

func (p public) RemoveNode(ctx context.Context, name string, dryRun bool) (*api.NodeRemoval, error) {
	return whileQuorum(ctx, p.Node, func(ctx context.Context) (*api.NodeRemoval, error) { return p.Node.RemoveNode(ctx, name, dryRun) })
}

func (p public) GroupList(ctx context.Context) (*api.GroupList, error) {
	return whileQuorum(ctx, p.Node, p.Node.GroupList)
}

func (p public) RemoveGroup(ctx context.Context, name string, dryRun bool) (*api.GroupRemoval, error) {
	return whileQuorum(ctx, p.Node, func(ctx context.Context) (*api.GroupRemoval, error) { return p.Node.RemoveGroup(ctx, name, dryRun) })
}

func (p public) TopicList(ctx context.Context) (*api.TopicList, error) {
	return whileQuorum(ctx, p.Node, p.Node.TopicList)
}

func (p public) RemoveTopic(ctx context.Context, name string, dryRun bool) (*api.TopicRemoval, error) {
	return whileQuorum(ctx, p.Node, func(ctx context.Context) (*api.TopicRemoval, error) { return p.Node.RemoveTopic(ctx, name, dryRun) })
}

func (p public) Key(ctx context.Context, topic, name string) (*api.KeyInfo, error) {
	return whileQuorum(ctx, p.Node, func(ctx context.Context) (*api.KeyInfo, error) { return p.Node.Key(ctx, topic, name) })
}

func (p public) Ask(ctx context.Context, group string, a api.Ask) (*api.Asked, error) {
	return whileQuorum(ctx, p.Node, func(ctx context.Context) (*api.Asked, error) { return p.Node.Ask(ctx, group, a) })
}

func (p public) Asked(ctx context.Context, group string, id uint64) (*api.Asked, error) {
	return whileQuorum(ctx, p.Node, func(ctx context.Context) (*api.Asked, error) { return p.Node.Asked(ctx, group, id) })
}

func (p public) DeadLetters(ctx context.Context, group string, f api.LetterFilter) (*api.LetterList, error) {
	if f.Local {
		return p.localLetters(group, f)
	}
	return whileQuorum(ctx, p.Node, func(ctx context.Context) (*api.LetterList, error) { return p.Node.DeadLetters(ctx, group, f) })
}

func (p public) Requeue(ctx context.Context, group string, o api.LetterOrder) (*api.LettersDone, error) {
	return whileQuorum(ctx, p.Node, func(ctx context.Context) (*api.LettersDone, error) { return p.Node.Requeue(ctx, group, o) })
}

func (p public) Drop(ctx context.Context, group string, o api.LetterOrder) (*api.LettersDone, error) {
	return whileQuorum(ctx, p.Node, func(ctx context.Context) (*api.LettersDone, error) { return p.Node.Drop(ctx, group, o) })
}

func (p public) Message(ctx context.Context, topic string, seq uint64) (*api.Message, error) {
	return whileQuorum(ctx, p.Node, func(ctx context.Context) (*api.Message, error) { return p.Node.Message(ctx, topic, seq) })
}

func (p public) Count(ctx context.Context, topic string, o api.CountOptions) (uint64, error) {
	return whileQuorum(ctx, p.Node, func(ctx context.Context) (uint64, error) { return p.Node.Count(ctx, topic, o) })
}

// Publish is refused at once where no message could be acknowledged. One that is under way when the quorum is lost ends by
// itself: it may be stored.
func (p public) Publish(ctx context.Context, topic string, messages []api.NewMessage) ([]api.Receipt, error) {
	if q := p.quorum(); q.Lost() {
		return nil, noQuorum(q)
	}
	receipts, err := p.Node.Publish(ctx, topic, messages)
	return receipts, p.explain(ctx, err)
}

// Tap ends with what is missing, unless it follows: that one waits longer than an election takes.
func (p public) Tap(ctx context.Context, name string, o api.TapOptions) (api.MessageReader, error) {
	if o.Local {
		return p.localTap(name, o)
	}
	if q := p.quorum(); q.Lost() {
		return nil, noQuorum(q)
	}
	stop := func() {}
	if !o.Follow {
		ctx, stop = p.untilQuorumIsLost(ctx)
	}
	reader, err := p.Node.Tap(ctx, name, o)
	if err != nil {
		stop()
		return nil, p.explain(ctx, err)
	}
	return explainedReader{reader: reader, node: p.Node, ctx: ctx, stop: stop}, nil
}

// explainedReader is a tap whose errors are explained.
type explainedReader struct {
	reader api.MessageReader
	node   *Node
	ctx    context.Context // of the request; ended when the quorum is lost
	stop   func()
}

// Next reads by the reader's own context, which ends with the request as the caller's does.
func (r explainedReader) Next(context.Context) (*api.Message, error) {
	m, err := r.reader.Next(r.ctx)
	return m, r.node.explain(r.ctx, err)
}

func (r explainedReader) Close() {
	r.stop()
	r.reader.Close()
}
