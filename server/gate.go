package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	broker "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// In a cluster what users publish comes in at a gate of the node that they are connected to, and goes on from there to its
// topic. The gate holds back what would stop the topic: a message with the header Nats-Expected-Last-Msg-Id is checked only
// when a copy applies it, and the broker takes its own refusal for a failed write, so that every copy stops for good (seen with
// nats-server v2.15.2; jetstream_cluster.go, applyStreamMsgOp, "errors that we can't recover from"). A stand-alone broker checks
// it before it stores anything.

// entry is before the subject of a message that has yet to pass the gate of this node, "" if it has none. Each node has its own, so
// that what a connection publishes stays in order.
func (o Options) entry() string {
	if o.Mode == Single {
		return ""
	}
	return "leasehold.publish." + o.Node + "."
}

// answerPrefix is before the publisher's reply subject in the one that the topic answers to: the broker keeps the publisher's for
// its own use (_R_.…), and tells only the sender of a message that nobody is there to answer.
func answerPrefix(node string) string { return "leasehold.answer." + node + "." }

// What may wait at the gate: more is refused at once, with the answer that the broker gives when a stream's own queue is full. A
// waiting message takes some 2 kB beside its data, so their number counts as well.
const (
	gateRoom     = 64 << 20 // bytes
	gateMessages = 20_000
)

// gateWarnEvery is how often at most the log says that messages are refused.
const gateWarnEvery = time.Minute

// gate passes users' messages on, one after another, and their answers back. It has no other state than its count.
type gate struct {
	nc       *nats.Conn
	messages string // prefix
	answers  string // prefix
	log      hclog.Logger

	refused int // messages since the last warning
	warned  time.Time
}

// openGate lets users publish where there is a gate. It ends with the broker.
func (s *Server) openGate() error {
	entry := s.opt.entry()
	if entry == "" {
		return nil
	}
	nc, err := s.dial(roleGate, s.users.roles[roleGate])
	if err != nil {
		return err
	}
	// What the client library finds wrong with messages, which is up to publishers, pass says.
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.log.Debug("gate", "error", err) })
	g := &gate{nc: nc, messages: entry, answers: answerPrefix(s.opt.Node), log: s.log}
	err = errors.Join(g.take(g.messages, g.pass), g.take(g.answers, g.answer), nc.Flush())
	if err != nil {
		nc.Close()
		return fmt.Errorf("open the gate for publishers: %w", err)
	}
	return nil
}

// take subscribes without a limit: the client library would drop messages without a word.
func (g *gate) take(prefix string, f nats.MsgHandler) error {
	sub, err := g.nc.Subscribe(prefix+">", f)
	if err != nil {
		return err
	}
	return sub.SetPendingLimits(-1, -1)
}

// pass sends one message on to its topic.
func (g *gate) pass(m *nats.Msg) {
	out := &nats.Msg{Subject: strings.TrimPrefix(m.Subject, g.messages), Header: m.Header, Data: m.Data}
	if why := g.fault(m); why != nil {
		g.refuse(out.Subject, m.Reply, why)
		return
	}
	if m.Reply != "" {
		out.Reply = g.answers + m.Reply
	}
	delete(out.Header, broker.ClientInfoHdr) // the broker's note of who publishes: a topic's stream would drop it
	g.send(out)
}

// answer sends on what a topic says of a message, or the broker's word that nobody leads the topic.
func (g *gate) answer(m *nats.Msg) {
	g.send(&nats.Msg{Subject: strings.TrimPrefix(m.Subject, g.answers), Header: m.Header, Data: m.Data})
}

func (g *gate) send(m *nats.Msg) {
	if err := g.nc.PublishMsg(m); err != nil {
		g.log.Debug("a message did not pass the gate", "subject", m.Subject, "error", err)
	}
}

// fault says why a message must not pass, nil if it may.
func (g *gate) fault(m *nats.Msg) *broker.ApiError {
	if n, bytes, err := m.Sub.Pending(); err == nil && (n > gateMessages || bytes > gateRoom) {
		return broker.NewJSStreamTooManyRequestsError()
	}
	if m.Header == nil && m.Size() > len(m.Subject)+len(m.Reply)+len(m.Data) {
		return badHeader("the headers cannot be read")
	}
	for name := range m.Header {
		if strings.EqualFold(name, nats.ExpectedLastMsgIdHdr) {
			return badHeader("topics do not take the header " + name + "; Nats-Msg-Id makes a repeated publish harmless")
		}
	}
	return nil
}

func badHeader(why string) *broker.ApiError {
	return &broker.ApiError{Code: 400, ErrCode: uint16(broker.JSStreamWrongLastMsgIDErrF), Description: why}
}

// refuse answers as a stream does.
func (g *gate) refuse(subject, reply string, why *broker.ApiError) {
	if reply != "" {
		answer, _ := json.Marshal(broker.JSPubAckResponse{Error: why})
		g.send(&nats.Msg{Subject: reply, Data: answer})
	}
	g.refused++
	if time.Since(g.warned) >= gateWarnEvery {
		g.log.Warn("refused a publisher's message", "subject", subject, "reason", why.Description, "refused", g.refused)
		g.refused, g.warned = 0, time.Now()
	}
}
