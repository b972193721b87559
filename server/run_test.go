package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"leasehold/server"
	"leasehold/server/datadir"
	"leasehold/server/servertest"
)

// runOnce opens the directory, builds the broker and runs it for at most a moment.
func runOnce(t *testing.T, o servertest.Options) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	dir, err := datadir.Open(o.Path, o.Identity)
	if err != nil {
		return err
	}
	defer dir.Close()
	o.Dir = dir
	s, err := server.New(o.Options)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

func TestPortInUseIsAClearErrorNamingKeyAndAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()

	single := servertest.SingleOptions(t)
	single.Listen = taken
	wantError(t, runOnce(t, single), "server.listen", taken, "in use")

	cluster := servertest.ClusterOptions(t, 3)[0]
	cluster.ClusterListen = taken
	wantError(t, runOnce(t, cluster), "cluster.nodes", taken, "in use")

	single.Listen = "127.0.0.1:0"
	cluster.ClusterListen = "192.0.2.1:6222"
	wantError(t, runOnce(t, cluster), "cluster.nodes", "192.0.2.1", "not an address of this machine")
}

// The broker cannot make its store: it must not live on half-started.
func TestBrokerThatGivesUpEndsRunWithItsReason(t *testing.T) {
	t.Parallel()
	o := servertest.SingleOptions(t)
	o.Listen = servertest.FreeAddress(t)
	var told error
	o.BeforeClose = func(cause error) { told = cause }
	dir, err := datadir.Open(o.Path, o.Identity)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := os.WriteFile(dir.StoreDir(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o.Dir = dir
	s, err := server.New(o.Options)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Run(context.Background())
	wantError(t, err, "broker gave up", "Can't start JetStream")
	if told == nil || !errors.Is(err, told) {
		t.Errorf("BeforeClose was told %v, Run returned %v", told, err)
	}
	mustBeFree(t, o.Listen)
}

func mustBeFree(t *testing.T, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("port still taken after the stop: %v", err)
	}
	_ = l.Close()
}

func TestStopCallsBeforeCloseWhileTheListenersAreStillOpen(t *testing.T) {
	o := servertest.SingleOptions(t)
	o.Listen = servertest.FreeAddress(t)
	var dial error
	o.BeforeClose = func(error) {
		nc, err := net.Dial("tcp", o.Listen)
		if dial = err; err == nil {
			_ = nc.Close()
		}
	}
	n := servertest.Start(t, o)
	n.WaitReady(t)
	if err := n.Stop(); err != nil {
		t.Errorf("Run returned %v after a stop", err)
	}
	if dial != nil {
		t.Errorf("the listener was closed before BeforeClose: %v", dial)
	}
	mustBeFree(t, o.Listen)
	if why := n.Ready(); len(why) == 0 {
		t.Error("a stopped broker says that it is ready")
	}
}

func TestStopDuringStartLeavesNothingBehind(t *testing.T) {
	o := servertest.SingleOptions(t)
	o.Listen = servertest.FreeAddress(t)
	dir, err := datadir.Open(o.Path, o.Identity)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	o.Dir = dir
	s, err := server.New(o.Options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run = %v", err)
	}
	mustBeFree(t, o.Listen)
	if _, err := s.Conn("late"); err == nil {
		t.Error("Conn worked on a broker that never started")
	}
}

// local connects as any program on this machine can.
func local(t *testing.T, s *server.Server, opts ...nats.Option) (*nats.Conn, chan error) {
	t.Helper()
	refused := make(chan error, 16)
	opts = append(opts, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	nc, err := nats.Connect("nats://"+s.ClientAddr(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, refused
}

func TestLocalClientMayPublishToTopicsAndNothingElse(t *testing.T) {
	s := servertest.Single(t)
	js := stream(t, s, "orders", "orders.*")
	stream(t, s, "KV_leasehold", "$KV.leasehold.>")
	nc, refused := local(t, s)

	answer, err := nc.Request("orders.a", []byte("1"), 10*time.Second)
	if err != nil || !strings.Contains(string(answer.Data), `"seq":1`) {
		t.Fatalf("publish to the topic: %v, %v", answer, err)
	}
	for _, subject := range []string{
		"$JS.API.STREAM.NAMES", "$JS.API.STREAM.PURGE.orders", "$JS.API.STREAM.MSG.GET.orders",
		"$KV.leasehold.session.n1", "dlq.g.0.a.1", "$SYS.REQ.SERVER.PING", "orders.a.b", "other",
	} {
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, refused, "Publish", subject)
	}
	for _, subject := range []string{">", "orders.*", "$KV.>", "$SYS.>"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		wantRefusal(t, refused, "Subscription", subject)
	}
	got, err := js.Stream(context.Background(), "orders")
	if err != nil || got.CachedInfo().State.Msgs != 1 {
		t.Errorf("the topic holds %+v, %v; want the one message", got.CachedInfo().State, err)
	}
}

func wantRefusal(t *testing.T, refused <-chan error, what, subject string) {
	t.Helper()
	select {
	case err := <-refused:
		if !strings.Contains(err.Error(), "Permissions Violation for "+what) || !strings.Contains(err.Error(), subject) {
			t.Errorf("%s to %s: got error %v", what, subject, err)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("%s to %s was not refused", what, subject)
	}
}

func TestWithoutTopicsALocalClientMayPublishNothing(t *testing.T) {
	o := servertest.SingleOptions(t)
	o.PublishSubjects = nil
	n := servertest.Start(t, o)
	nc, refused := local(t, n.Server)
	if err := nc.Publish("orders.a", nil); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, refused, "Publish", "orders.a")
}

// The internal users' keys never leave the process; should one leak, it is still of no use over TCP.
func TestInternalUserIsRefusedOverTCP(t *testing.T) {
	s := servertest.Single(t)
	public, sign := s.InternalUser()
	nc, err := nats.Connect("nats://"+s.ClientAddr(), nats.Nkey(public, sign))
	if err == nil {
		nc.Close()
		t.Error("the internal user connected over TCP")
	}
}

// What a publisher may send must fit as a dead letter, which is the message and headers.
func TestPayloadLimitLeavesRoomForADeadLetter(t *testing.T) {
	s := servertest.Single(t)
	nc, err := s.Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if want := int64(1<<20 + 64<<10); nc.MaxPayload() != want {
		t.Errorf("MaxPayload = %d, want %d", nc.MaxPayload(), want)
	}
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// TestLogNamesTheAddressListenedOn: a name says nothing of the interface.
func TestLogNamesTheAddressListenedOn(t *testing.T) {
	var log lockedBuffer
	o := servertest.ClusterOptions(t, 3)[0]
	_, port, err := net.SplitHostPort(o.ClusterListen)
	if err != nil {
		t.Fatal(err)
	}
	o.ClusterListen = "localhost:" + port
	o.Peers[0].Address = o.ClusterListen
	o.Peers[2].Address = "192.0.2.13:6222"
	o.Logger = hclog.New(&hclog.LoggerOptions{Output: &log})
	servertest.Start(t, o)
	servertest.Eventually(t, 20*time.Second, func() error {
		for _, want := range []string{"cluster=127.0.0.1:" + port, "localhost:" + port + " is 127.0.0.1 on this machine"} {
			if !strings.Contains(log.String(), want) {
				return fmt.Errorf("no %q in %s", want, log.String())
			}
		}
		return nil
	})
}
