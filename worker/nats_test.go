package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"

	"leasehold/server"
	"leasehold/server/access"
	"leasehold/server/servertest"
)

// natsRig is a broker with a user that serves the group billing, the handler on the node's side, and the user.
type natsRig struct {
	*NATS
	service *nats.Conn
}

func newNATSRig(t *testing.T, cfg NATSConfig) *natsRig {
	t.Helper()
	user, login := biller(t)
	o := servertest.SingleOptions(t)
	o.Users = []access.User{user}
	n := servertest.Start(t, o)
	n.WaitReady(t)
	return newNATSRigOn(t, cfg, n.Server, n.Server, login)
}

// biller is a user that serves the group billing, and what it connects with.
func biller(t *testing.T) (access.User, nats.Option) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return access.User{Name: "biller", NKey: public, Serve: []string{"billing"}}, nats.Nkey(public, pair.Sign)
}

// newNATSRigOn has the handler on one node, and connects the user to another or the same.
func newNATSRigOn(t *testing.T, cfg NATSConfig, here, there *server.Server, login nats.Option) *natsRig {
	t.Helper()
	conn, err := here.Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	service, err := nats.Connect("nats://"+there.ClientAddr(), login, nats.Timeout(servertest.ReadyLimit),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // Refused subjects; by default they go to stderr.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	h, err := NewNATS(cfg, HandlerEnv{Conn: conn, Subject: access.ServeSubject("billing")})
	if err != nil {
		t.Fatal(err)
	}
	return &natsRig{h, service}
}

// serve has the user answer the group's requests until the function returned is called.
func (r *natsRig) serve(t *testing.T, answer func(*nats.Msg)) (stop func()) {
	t.Helper()
	sub, err := r.service.QueueSubscribe(access.ServeSubject("billing"), "any", answer)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.service.Flush(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(sub.Unsubscribe(), r.service.Flush()); err != nil {
			t.Fatal(err)
		}
	}
}

// reply answers a request with the error code named, which may be empty, and a text.
func reply(t *testing.T, req *nats.Msg, code, text string) {
	answer := nats.NewMsg(req.Reply)
	if code != "" {
		answer.Header.Set(serviceErrorCode, code)
	}
	if text != "" {
		answer.Header.Set(serviceError, text)
	}
	answer.Header.Set("Retry-After", "3")
	if err := req.RespondMsg(answer); err != nil {
		t.Error(err)
	}
}

// TestMessageThatNoRequestCanCarryIsRejected: were it called unavailable, its partition would wait for it for ever.
func TestMessageThatNoRequestCanCarryIsRejected(t *testing.T) {
	r := newNATSRig(t, NATSConfig{})
	r.serve(t, func(req *nats.Msg) { reply(t, req, "", "") })
	for name, m := range map[string]*Message{
		"name with a blank": {Headers: map[string][]string{"a b": {"c"}}},
		"name in brackets":  {Headers: map[string][]string{"(a)": {"c"}}},
		"name in Latin-1":   {Headers: map[string][]string{"\xfc": {"c"}}},
		"payload":           {Data: make([]byte, 2<<20)},
		"headers":           {Headers: map[string][]string{"x": slices.Repeat([]string{strings.Repeat("y", 1000)}, 2000)}},
	} {
		m.Timeout = 10 * time.Second
		if got := r.Handle(t.Context(), m); got.Status != Reject || got.Reason == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestNATSServiceAnswersMapToResults(t *testing.T) {
	r := newNATSRig(t, NATSConfig{OKStatus: []int{418}})
	r.serve(t, func(req *nats.Msg) {
		code, text, _ := strings.Cut(string(req.Data), " ")
		reply(t, req, code, text)
	})
	for _, c := range []struct {
		answer string
		want   Result
	}{
		{"", Result{Status: OK}},
		{"418 seen before", Result{Status: OK}},
		{"400 because", Result{Status: Reject, Reason: "400 Bad Request: because"}},
		{"414 long", Result{Status: Reject, Reason: "414 Request URI Too Long: long"}},
		{"431 many", Result{Status: Reject, Reason: "431 Request Header Fields Too Large: many"}},
		{"409 because", Result{Status: Retry, Reason: "409 Conflict: because", After: 3 * time.Second}},
		{"410", Result{Status: Pause, Reason: "410 Gone"}},
		{"404", Result{Status: Unavailable, Reason: "404 Not Found", After: 3 * time.Second}},
		{"500 because", Result{Status: Retry, Reason: "500 Internal Server Error: because", After: 3 * time.Second}},
		{"503 because", Result{Status: Unavailable, Reason: "503 Service Unavailable: because", After: 3 * time.Second}},
		{"42 because", Result{Status: Retry, Reason: "42: because", After: 3 * time.Second}},
		{"E17 because", Result{Status: Retry, Reason: `service answered with error code "E17": because`}},
		{" because", Result{Status: Retry, Reason: `service answered with error code "": because`}},
	} {
		if got := handle(t, r, testMessage(0, 1, c.answer)); got != c.want {
			t.Errorf("%q: got %+v, want %+v", c.answer, got, c.want)
		}
	}
}

func TestNATSWithoutAServiceIsUnavailable(t *testing.T) {
	r := newNATSRig(t, NATSConfig{})
	wantStatus(t, handle(t, r, testMessage(0, 1, "")), Unavailable, "no service answers on leasehold.serve.billing")
	stop := r.serve(t, func(req *nats.Msg) { reply(t, req, "", "") })
	wantStatus(t, handle(t, r, testMessage(0, 1, "")), OK, "")
	stop()
	wantStatus(t, handle(t, r, testMessage(0, 1, "")), Unavailable, "no service answers")
}

func TestNATSWithoutTheBrokerIsUnavailable(t *testing.T) {
	r := newNATSRig(t, NATSConfig{})
	r.conn.Close()
	wantStatus(t, handle(t, r, testMessage(0, 1, "")), Unavailable, "the connection to the broker is lost")
}

func TestNATSCallEndsWithItsTimeOrItsLease(t *testing.T) {
	r := newNATSRig(t, NATSConfig{})
	got := make(chan struct{}, 2)
	r.serve(t, func(*nats.Msg) { got <- struct{}{} })
	wantStatus(t, handleFor(t, r, testMessage(0, 1, ""), 50*time.Millisecond), Timeout, "deadline")
	<-got
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-got
		cancel(errors.New("lease lost"))
	}()
	wantStatus(t, r.Handle(ctx, testMessage(0, 1, "")), Unavailable, "lease lost")
}

func TestNATSCarriesTheEnvelope(t *testing.T) {
	r := newNATSRig(t, NATSConfig{})
	requests := make(chan *nats.Msg, 1)
	r.serve(t, func(req *nats.Msg) {
		requests <- req
		reply(t, req, "", "")
	})
	m := testMessage(3, 1007, "\x00raw\xff")
	m.Headers = map[string][]string{
		"Nats-Msg-Id": {"k"}, "nats-x": {"y"}, "traceparent": {"00-ab"}, "My-header": {"a", "b"}, "leasehold-epoch": {"99"}, "Leasehold-Epoch": {"99"},
	}
	wantStatus(t, handle(t, r, m), OK, "")
	got := <-requests
	if string(got.Data) != "\x00raw\xff" {
		t.Errorf("payload is %q", got.Data)
	}
	wantHeaders(t, got.Header, map[string]string{
		"Leasehold-Id": "orders/3/1007", "Leasehold-Idempotency-Key": "k", "Leasehold-Topic": "orders", "Leasehold-Group": "billing",
		"Leasehold-Node": "n1", "Leasehold-Partition": "3", "Leasehold-Seq": "1007", "Leasehold-Key": "c-17", "Leasehold-Epoch": "5",
		"Leasehold-Attempt": "1", "Leasehold-Max-Attempts": "8", "Leasehold-Timeout-Ms": "20000", "Leasehold-Subject": "orders.c-17",
		"Leasehold-Time": "2023-11-14T22:13:20.000000005Z",
		"traceparent":    "00-ab", "My-header": "a,b", "Nats-Msg-Id": "", "nats-x": "", "leasehold-epoch": "",
	})
}

// A message of the largest size still goes through with its envelope: the broker's own limit is that much higher.
func TestNATSCarriesTheLargestMessage(t *testing.T) {
	r := newNATSRig(t, NATSConfig{})
	r.serve(t, func(req *nats.Msg) { reply(t, req, fmt.Sprint(510+len(req.Data)%7), "") })
	size := int(server.DefaultConfig().MaxPayload)
	wantStatus(t, handle(t, r, testMessage(0, 1, strings.Repeat("x", size))), Retry, fmt.Sprint(510+size%7))
	wantStatus(t, handle(t, r, testMessage(0, 1, strings.Repeat("x", 2*size))), Reject, "too large")
}

// What the micro framework of the client libraries makes is a service here, too.
func TestNATSMicroServicesAnswer(t *testing.T) {
	r := newNATSRig(t, NATSConfig{})
	s, err := micro.AddService(r.service, micro.Config{
		Name: "biller", Version: "1.0.0",
		Endpoint: &micro.EndpointConfig{Subject: access.ServeSubject("billing"), Handler: micro.HandlerFunc(func(req micro.Request) {
			if string(req.Data()) == "bad" {
				req.Error("422", "because", nil)
				return
			}
			req.Respond(nil)
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.service.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		wantStatus(t, handle(t, r, testMessage(0, 1, "good")), OK, "")
		wantStatus(t, handle(t, r, testMessage(0, 1, "bad")), Reject, "422 Unprocessable Entity: because")
	}
	if s.Stopped() {
		t.Error("the service has stopped")
	}
}

// The service may be connected to any node, and its death shows on every other.
func TestNATSServiceOfAnotherNodeAnswers(t *testing.T) {
	user, login := biller(t)
	var nodes []*servertest.Node
	for _, o := range servertest.ClusterOptions(t, 3) {
		o.Users = []access.User{user}
		nodes = append(nodes, servertest.Start(t, o))
	}
	for _, n := range nodes {
		n.WaitReady(t)
	}
	r := newNATSRigOn(t, NATSConfig{}, nodes[0].Server, nodes[1].Server, login)
	wantStatus(t, handle(t, r, testMessage(0, 1, "")), Unavailable, "no service answers")
	r.serve(t, func(req *nats.Msg) { reply(t, req, "", "") })
	soon(t, func() error { // Until the other node knows of the subscription.
		if got := handle(t, r, testMessage(0, 1, "")); got.Status != OK {
			return fmt.Errorf("got %+v", got)
		}
		return nil
	})
	r.service.Close()
	soon(t, func() error {
		got := handleFor(t, r, testMessage(0, 1, ""), time.Second)
		if got.Status != Unavailable || !errors.Is(got.Err, nats.ErrNoResponders) {
			return fmt.Errorf("got %+v", got)
		}
		return nil
	})
}
