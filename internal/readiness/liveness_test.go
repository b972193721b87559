package readiness

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/server/servertest"
)

func TestANodeIsDeadAfterAMinuteOfItsOwnFault(t *testing.T) {
	var l Liveness
	start := time.Now()
	for _, look := range []struct {
		after time.Duration
		why   string
		dead  bool
	}{
		{0, "x", false}, {deadAfter - time.Second, "x", false}, {deadAfter, "x", true},
		{deadAfter + time.Second, "", false}, // It could be renewed, or the quorum was lost.
		{2 * deadAfter, "x", false}, {3*deadAfter - time.Second, "x", false}, {3 * deadAfter, "y", true},
	} {
		l.note(look.why, start.Add(look.after))
		if err := l.fault(start.Add(look.after)); (err != nil) != look.dead || err != nil &&
			!strings.Contains(err.Error(), look.why) {
			t.Errorf("after %v: %v", look.after, err)
		}
	}
	var dead Liveness
	dead.note("x", time.Now().Add(-2*deadAfter))
	if dead.Alive() == nil {
		t.Error("it is alive")
	}
}

// deafStore answers reads and takes no write.
type deafStore struct{ cluster.Store }

func (deafStore) Write(context.Context, lease.Write) (uint64, error) { return 0, errors.New("deaf") }

// A session that cannot be renewed counts against the node only as long as the broker has what a renewal needs.
func TestASessionThatNobodyCouldRenewIsNoFault(t *testing.T) {
	b := servertest.Start(t, servertest.SingleOptions(t))
	b.WaitReady(t)
	nc, err := b.Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	kv, err := cluster.OpenKV(ctx, nc, cluster.BucketOptions{Replicas: 1, MaxBytes: 1 << 26})
	if err != nil {
		t.Fatal(err)
	}
	for _, store := range []cluster.Store{kv, deafStore{kv}} {
		driver := cluster.New(cluster.Options{
			Lease: lease.Config{
				Self: lease.Session{Node: "n1", DirID: "d", KernelBoot: "k", Weight: 1}, Secret: "s",
				TTL: 5 * time.Second, Renew: time.Second, Margin: time.Second, WriteLimit: time.Second / 2,
				StabilizationWindow: time.Second,
			},
			Store: store, Clock: cluster.BootClock{}, SaveBoot: func(uint64) error { return nil }, Logger: servertest.Logger(t),
			CommitInterval: func(string) time.Duration { return time.Second },
		})
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		r := Renewal{Broker: b.Server, Driver: driver, Bucket: func(ctx context.Context) error {
			_, err := js.Stream(ctx, cluster.Stream)
			return err
		}}
		run, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- driver.Run(run) }()
		servertest.Eventually(t, time.Minute, func() error {
			why := r.ownFault(ctx)
			view, err := driver.Snapshot(ctx)
			if _, deaf := store.(deafStore); err == nil && (deaf && why == "" || !deaf && !view.Live) {
				err = errors.New(why + "; " + view.State)
			}
			return err
		})
		if _, deaf := store.(deafStore); deaf {
			if err := b.Stop(); err != nil {
				t.Fatal(err)
			}
			if why := r.ownFault(ctx); why != "" {
				t.Errorf("with the broker gone it is the node's fault: %s", why)
			}
		} else if why := r.ownFault(ctx); why != "" {
			t.Errorf("with a live session: %s", why)
		}
		stop()
		<-ended
	}
}
