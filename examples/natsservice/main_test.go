package main

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"leasehold/internal/conformance"
	"leasehold/worker/handler"
	"leasehold/worker/handler/natsrpc"
)

const hang = 20 * time.Second

// startBroker runs a broker as plain as it gets, and returns its URL: what the service sees of a node is one subject.
func startBroker(t *testing.T) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(hang) {
		t.Fatal("broker is not ready")
	}
	return s.ClientURL()
}

// connect returns a connection and how to end it: it answers what it has got, and is closed.
func connect(t *testing.T, url string) (nc *nats.Conn, drain func()) {
	t.Helper()
	closed := make(chan struct{})
	nc, err := nats.Connect(url, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, func() {
		if err := nc.Drain(); err != nil {
			t.Error(err)
		}
		<-closed
	}
}

func TestServiceAnswersEachMessageOnce(t *testing.T) {
	url := startBroker(t)
	service, drain := connect(t, url)
	for range 2 { // Two members of the queue group.
		if err := serve(service, "billing"); err != nil {
			t.Fatal(err)
		}
	}
	if err := service.Flush(); err != nil {
		t.Fatal(err)
	}
	node, _ := connect(t, url)
	want := map[string]string{`{"item":4}`: "", `no json`: "422", ``: "422"}
	answers := make(map[string]*nats.Subscription)
	for data := range want {
		request := nats.NewMsg("leasehold.serve.billing")
		request.Data, request.Reply = []byte(data), node.NewInbox()
		request.Header.Set("Leasehold-Id", "orders/3/1007")
		request.Header.Set("Leasehold-Epoch", "41")
		var err error
		if answers[data], err = node.SubscribeSync(request.Reply); err != nil {
			t.Fatal(err)
		}
		if err := node.PublishMsg(request); err != nil {
			t.Fatal(err)
		}
	}
	if err := node.Flush(); err != nil { // Both members have been sent what they get.
		t.Fatal(err)
	}
	drain()
	for data, code := range want {
		m, err := answers[data].NextMsg(hang)
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		if got := m.Header.Get("Nats-Service-Error-Code"); got != code || len(m.Data) != 0 {
			t.Errorf("%q: code %q and data %q, want code %q and no data", data, got, m.Data, code)
		}
	}
	if err := node.Flush(); err != nil {
		t.Fatal(err)
	}
	for data, sub := range answers {
		if n, _, err := sub.Pending(); n != 0 || err != nil {
			t.Errorf("%q: %d more answers (%v)", data, n, err)
		}
	}
}

// TestServiceServesTheHandlerKind has Leasehold's own side of the contract call it.
func TestServiceServesTheHandlerKind(t *testing.T) {
	url := startBroker(t)
	service, _ := connect(t, url)
	if err := serve(service, "billing"); err != nil {
		t.Fatal(err)
	}
	if err := service.Flush(); err != nil {
		t.Fatal(err)
	}
	node, _ := connect(t, url)
	env := handler.Env{App: "leasehold/test", Node: "n1", Group: "billing", Topic: "orders", Conn: node,
		Subject: "leasehold.serve.billing"}
	h, err := natsrpc.New(natsrpc.Config{}, env)
	if err != nil {
		t.Fatal(err)
	}
	r, err := conformance.Calls(t.Context(), h, conformance.Options{
		Env: env, Timeout: hang, MaxPayload: 64 << 10, Key: "c-17", Payloads: [][]byte{[]byte(`{"item":4}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Checks {
		// It keeps no epoch, and how fast it answers is the machine's affair.
		if c.Verdict != conformance.Right && c.Name != "stale epoch" && c.Name != "time" {
			t.Errorf("%+v", c)
		}
	}
}
