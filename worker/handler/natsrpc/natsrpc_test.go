package natsrpc

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
	"leasehold/worker/handler"
	"leasehold/worker/workertest"
)

// natsRig is a broker with a user that serves the group billing, the handler on the node's side, and the user.
type natsRig struct {
	*Handler
	service *nats.Conn
}

func newNATSRig(t *testing.T, cfg Config) *natsRig {
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
func newNATSRigOn(t *testing.T, cfg Config, here, there *server.Server, login nats.Option) *natsRig {
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
	h, err := New(cfg, handler.Env{Conn: conn, Subject: access.ServeSubject("billing")})
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

// TestMessageThatNoRequestCanCarryIsRejected: were it called unavailable, its partition would wait for it forever.
func TestMessageThatNoRequestCanCarryIsRejected(t *testing.T) {
	r := newNATSRig(t, Config{})
	r.serve(t, func(req *nats.Msg) { reply(t, req, "", "") })
	for name, m := range map[string]*handler.Message{
		"name with a blank": {Headers: map[string][]string{"a b": {"c"}}},
		"name in brackets":  {Headers: map[string][]string{"(a)": {"c"}}},
		"name in Latin-1":   {Headers: map[string][]string{"\xfc": {"c"}}},
		"payload":           {Data: make([]byte, 2<<20)},
		"headers":           {Headers: map[string][]string{"x": slices.Repeat([]string{strings.Repeat("y", 1000)}, 2000)}},
	} {
		m.Timeout = 10 * time.Second
		if got := r.Handle(t.Context(), m); got.Status != handler.Reject || got.Reason == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestNATSServiceAnswersMapToResults(t *testing.T) {
	r := newNATSRig(t, Config{OKStatus: []int{418}})
	r.serve(t, func(req *nats.Msg) {
		code, text, _ := strings.Cut(string(req.Data), " ")
		reply(t, req, code, text)
	})
	for _, c := range []struct {
		answer string
		want   handler.Result
	}{
		{"", handler.Result{Status: handler.OK}},
		{"418 seen before", handler.Result{Status: handler.OK}},
		{"400 because", handler.Result{Status: handler.Reject, Reason: "400 Bad Request: because"}},
		{"414 long", handler.Result{Status: handler.Reject, Reason: "414 Request URI Too Long: long"}},
		{"431 many", handler.Result{Status: handler.Reject, Reason: "431 Request Header Fields Too Large: many"}},
		{"409 because", handler.Result{Status: handler.Retry, Reason: "409 Conflict: because", After: 3 * time.Second}},
		{"410", handler.Result{Status: handler.Pause, Reason: "410 Gone"}},
		{"404", handler.Result{Status: handler.Unavailable, Reason: "404 Not Found", After: 3 * time.Second}},
		{"500 because", handler.Result{Status: handler.Retry, Reason: "500 Internal Server Error: because",
			After: 3 * time.Second}},
		{"503 because", handler.Result{Status: handler.Unavailable, Reason: "503 Service Unavailable: because",
			After: 3 * time.Second}},
		{"42 because", handler.Result{Status: handler.Retry, Reason: "42: because", After: 3 * time.Second}},
		{"E17 because", handler.Result{Status: handler.Retry, Reason: `service answered with error code "E17": because`}},
		{" because", handler.Result{Status: handler.Retry, Reason: `service answered with error code "": because`}},
	} {
		if got := workertest.Handle(t, r, workertest.Message(0, 1, c.answer)); got != c.want {
			t.Errorf("%q: got %+v, want %+v", c.answer, got, c.want)
		}
	}
}

func TestNATSWithoutAServiceIsUnavailable(t *testing.T) {
	r := newNATSRig(t, Config{})
	workertest.WantStatus(t, workertest.Handle(t, r, workertest.Message(0, 1, "")), handler.Unavailable,
		"no service answers on leasehold.serve.billing")
	stop := r.serve(t, func(req *nats.Msg) { reply(t, req, "", "") })
	workertest.WantStatus(t, workertest.Handle(t, r, workertest.Message(0, 1, "")), handler.OK, "")
	stop()
	workertest.WantStatus(t, workertest.Handle(t, r, workertest.Message(0, 1, "")), handler.Unavailable,
		"no service answers")
}

func TestNATSWithoutTheBrokerIsUnavailable(t *testing.T) {
	r := newNATSRig(t, Config{})
	r.conn.Close()
	workertest.WantStatus(t, workertest.Handle(t, r, workertest.Message(0, 1, "")), handler.Unavailable,
		"the connection to the broker is lost")
}

func TestNATSCallEndsWithItsTimeOrItsLease(t *testing.T) {
	r := newNATSRig(t, Config{})
	got := make(chan struct{}, 2)
	r.serve(t, func(*nats.Msg) { got <- struct{}{} })
	workertest.WantStatus(t, workertest.HandleFor(t, r, workertest.Message(0, 1, ""), 50*time.Millisecond),
		handler.Timeout, "deadline")
	<-got
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-got
		cancel(errors.New("lease lost"))
	}()
	workertest.WantStatus(t, r.Handle(ctx, workertest.Message(0, 1, "")), handler.Unavailable, "lease lost")
}

func TestNATSCarriesTheEnvelope(t *testing.T) {
	r := newNATSRig(t, Config{})
	requests := make(chan *nats.Msg, 1)
	r.serve(t, func(req *nats.Msg) {
		requests <- req
		reply(t, req, "", "")
	})
	m := workertest.Message(3, 1007, "\x00raw\xff")
	m.Headers = map[string][]string{
		"Nats-Msg-Id": {"k"}, "nats-x": {"y"}, "traceparent": {"00-ab"}, "My-header": {"a", "b"}, "leasehold-epoch": {"99"},
		"Leasehold-Epoch": {"99"},
	}
	workertest.WantStatus(t, workertest.Handle(t, r, m), handler.OK, "")
	got := <-requests
	if string(got.Data) != "\x00raw\xff" {
		t.Errorf("payload is %q", got.Data)
	}
	workertest.WantHeaders(t, got.Header, map[string]string{
		"Leasehold-Id": "orders/3/1007", "Leasehold-Idempotency-Key": "k", "Leasehold-Topic": "orders",
		"Leasehold-Group": "billing",
		"Leasehold-Node":  "n1", "Leasehold-Partition": "3", "Leasehold-Seq": "1007", "Leasehold-Key": "c-17",
		"Leasehold-Epoch":   "5",
		"Leasehold-Attempt": "1", "Leasehold-Max-Attempts": "8", "Leasehold-Timeout-Ms": "20000",
		"Leasehold-Subject": "orders.c-17",
		"Leasehold-Time":    "2023-11-14T22:13:20.000000005Z",
		"traceparent":       "00-ab", "My-header": "a,b", "Nats-Msg-Id": "", "nats-x": "", "leasehold-epoch": "",
	})
}

// A message of the largest size still goes through with its envelope: the broker's own limit is that much higher.
func TestNATSCarriesTheLargestMessage(t *testing.T) {
	r := newNATSRig(t, Config{})
	r.serve(t, func(req *nats.Msg) { reply(t, req, fmt.Sprint(510+len(req.Data)%7), "") })
	size := int(server.DefaultConfig().MaxPayload)
	workertest.WantStatus(t, workertest.Handle(t, r, workertest.Message(0, 1, strings.Repeat("x", size))), handler.Retry,
		fmt.Sprint(510+size%7))
	workertest.WantStatus(t, workertest.Handle(t, r, workertest.Message(0, 1, strings.Repeat("x", 2*size))),
		handler.Reject, "too large")
}

// What the micro framework of the client libraries makes is a service here, too.
func TestNATSMicroServicesAnswer(t *testing.T) {
	r := newNATSRig(t, Config{})
	s, err := micro.AddService(r.service, micro.Config{
		Name: "biller", Version: "1.0.0",
		Endpoint: &micro.EndpointConfig{Subject: access.ServeSubject("billing"),
			Handler: micro.HandlerFunc(func(req micro.Request) {
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
		workertest.WantStatus(t, workertest.Handle(t, r, workertest.Message(0, 1, "good")), handler.OK, "")
		workertest.WantStatus(t, workertest.Handle(t, r, workertest.Message(0, 1, "bad")), handler.Reject,
			"422 Unprocessable Entity: because")
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
	r := newNATSRigOn(t, Config{}, nodes[0].Server, nodes[1].Server, login)
	workertest.WantStatus(t, workertest.Handle(t, r, workertest.Message(0, 1, "")), handler.Unavailable,
		"no service answers")
	r.serve(t, func(req *nats.Msg) { reply(t, req, "", "") })
	workertest.Soon(t, func() error { // Until the other node knows of the subscription.
		if got := workertest.Handle(t, r, workertest.Message(0, 1, "")); got.Status != handler.OK {
			return fmt.Errorf("got %+v", got)
		}
		return nil
	})
	r.service.Close()
	workertest.Soon(t, func() error {
		got := workertest.HandleFor(t, r, workertest.Message(0, 1, ""), time.Second)
		if got.Status != handler.Unavailable || !errors.Is(got.Err, nats.ErrNoResponders) {
			return fmt.Errorf("got %+v", got)
		}
		return nil
	})
}

func TestNATSRequestsBatches(t *testing.T) {
	r := newNATSRig(t, Config{Batch: 50, OKStatus: []int{409}})
	got := make(chan *nats.Msg, 16)
	r.serve(t, func(req *nats.Msg) {
		got <- req
		if req.Header.Get("Leasehold-Seq") != "" {
			word, code, _ := strings.Cut(string(req.Data[:8]), " ")
			if word == "ok" {
				code = ""
			}
			reply(t, req, code, "")
			return
		}
		switch word, arg := workertest.BatchWords(t, req.Data); word {
		case "answer":
			if err := req.Respond([]byte(arg)); err != nil {
				t.Error(err)
			}
		case "code":
			reply(t, req, arg, "because")
		default:
			reply(t, req, "", "")
		}
	})
	if n := r.BatchSize(3); n != 50 {
		t.Errorf("batches of %d", n)
	}
	workertest.WantAll(t, workertest.HandleBatch(t, r, workertest.Batch("ok", "ok")), 2)
	workertest.WantHeaders(t, (<-got).Header, map[string]string{
		"Content-Type": "application/x-ndjson", "Leasehold-Id": "orders/3/1001-1003", "Leasehold-Partition": "3",
		"Leasehold-Epoch":     "5",
		"Leasehold-First-Seq": "1001", "Leasehold-Last-Seq": "1003", "Leasehold-Messages": "2",
	})
	workertest.WantBatch(t, workertest.HandleBatch(t, r, workertest.Batch("ok",
		`answer {"ok_through":1001,"failed":{"seq":1003,"status":"retry","reason":"because"}}`)), 1, true, handler.Retry,
		"because")
	workertest.WantBatch(t, workertest.HandleBatch(t, r, workertest.Batch("ok", `answer {"status":"unavailable"}`)), 0,
		false, handler.Unavailable, "")
	workertest.WantBatch(t, workertest.HandleBatch(t, r, workertest.Batch("ok", `code 400`)), 0, false, handler.Reject,
		"400 Bad Request: because")
	workertest.WantBatch(t, workertest.HandleBatch(t, r, workertest.Batch("ok", `code 409`)), 0, false, handler.Retry,
		"409")
	// What is small as bytes may be too large for the broker as JSON.
	control := "ok " + strings.Repeat("\x01", 100<<10)
	workertest.WantRest(t, workertest.HandleBatch(t, r, workertest.Batch(control, control, control)), 1)
	workertest.WantRest(t, workertest.HandleBatch(t, r, workertest.Batch("ok", control, control)), 2)
	workertest.WantBatch(t, workertest.HandleBatch(t, r, workertest.Batch("code 400"+control[2:], control)), 0, true,
		handler.Reject, "400")
}
