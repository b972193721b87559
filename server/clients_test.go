package server_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/server/servertest"
)

// TestPublishersAreServedAsByABroker: whatever node a publisher is connected to, it is served as by a bare broker, and
// the message that would stop the topic on every node is refused.
func TestPublishersAreServedAsByABroker(t *testing.T) {
	t.Parallel()
	nodes := servertest.StartCluster(t, 3)
	for _, n := range nodes {
		n.WaitReady(t)
	}
	js := stream(t, nodes[0].Server, "orders", "orders.*")
	for _, n := range nodes {
		waitCurrent(t, n)
		p := &person{name: n.Options.Node, addr: n.ClientAddr()}
		wholeMessageArrives(t, p, js)
		for _, header := range []string{nats.ExpectedLastMsgIdHdr, strings.ToLower(nats.ExpectedLastMsgIdHdr)} {
			answer := ask(t, p, &nats.Msg{Subject: "orders.a", Header: nats.Header{header: {"there is none"}}})
			if !strings.Contains(answer, `"code":400`) || !strings.Contains(answer, header) {
				t.Errorf("a message with %s to %s was answered with %s", header, p.name, answer)
			}
		}
		unreadableHeadersAreRefused(t, p)
		orderIsKept(t, p, js)
	}
	for _, n := range nodes {
		waitCurrent(t, n)
	}
	if err := js.DeleteStream(t.Context(), "orders"); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		nobodyIsSaidAtOnce(t, &person{name: n.Options.Node, addr: n.ClientAddr()})
	}
}

// ask publishes and returns the answer.
func ask(t *testing.T, p *person, m *nats.Msg) string {
	t.Helper()
	answer, err := p.conn(t).RequestMsg(m, 10*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	return string(answer.Data)
}

// wholeMessageArrives publishes with headers and without, and reads back what the stream holds.
func wholeMessageArrives(t *testing.T, p *person, js jetstream.JetStream) {
	t.Helper()
	for _, want := range []nats.Header{nil, {"a": {"1", "2"}, "B-c": {" x: y "}, nats.MsgIdHdr: {"id of " + p.name}}} {
		ack := ask(t, p, &nats.Msg{Subject: "orders.a", Header: want, Data: []byte("data of " + p.name)})
		s, err := js.Stream(t.Context(), "orders")
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.GetLastMsgForSubject(t.Context(), "orders.a")
		if err != nil {
			t.Fatal(err)
		}
		if string(got.Data) != "data of "+p.name || !strings.Contains(ack, fmt.Sprintf(`"seq":%d`, got.Sequence)) ||
			len(got.Header) != len(want) {
			t.Errorf("%s: stored are %q and %q, acknowledged was %s", p.name, got.Header, got.Data, ack)
		}
		for name, values := range want {
			if trimmed := strings.TrimSpace(values[0]); got.Header[name][0] != trimmed || len(got.Header[name]) != len(values) {
				t.Errorf("%s: header %q arrived as %q", p.name, name, got.Header[name])
			}
		}
	}
}

// unreadableHeadersAreRefused sends what no client library would.
func unreadableHeadersAreRefused(t *testing.T, p *person) {
	t.Helper()
	head := "NATS/1.0\r\nno colon\r\n\r\n"
	text := fmt.Sprintf("CONNECT {\"headers\":true}\r\nSUB _INBOX.x 1\r\nHPUB orders.a _INBOX.x %d %d\r\n%s\r\n",
		len(head), len(head), head)
	if err := speak(p.addr, text, func(line string) bool {
		return strings.Contains(line, `"err_code":20002`)
	}); err != nil {
		t.Errorf("%s: no refusal of unreadable headers: %v", p.name, err)
	}
}

// orderIsKept publishes without waiting, as fast as it goes.
func orderIsKept(t *testing.T, p *person, js jetstream.JetStream) {
	t.Helper()
	mine, err := jetstream.New(p.conn(t))
	if err != nil {
		t.Fatal(err)
	}
	var acks []jetstream.PubAckFuture
	for range 2000 {
		ack, err := mine.PublishAsync("orders.b", []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		acks = append(acks, ack)
	}
	var seqs []uint64
	for _, a := range acks {
		select {
		case ok := <-a.Ok():
			seqs = append(seqs, ok.Sequence)
		case err := <-a.Err():
			t.Fatalf("%s: %v", p.name, err)
		case <-time.After(servertest.ReadyLimit):
			t.Fatalf("%s: no answer", p.name)
		}
	}
	if !slices.IsSorted(seqs) {
		t.Errorf("%s: sequences of messages sent one after another: %v", p.name, seqs)
	}
}

// nobodyIsSaidAtOnce publishes to a topic that nobody leads. A broker may still think for a moment that somebody does.
func nobodyIsSaidAtOnce(t *testing.T, p *person) {
	t.Helper()
	servertest.Eventually(t, 20*time.Second, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := p.conn(t).RequestWithContext(ctx, "orders.a", nil)
		if !errors.Is(err, nats.ErrNoResponders) {
			return fmt.Errorf("%s: a publish to no topic ended with %w", p.name, err)
		}
		return nil
	})
}
