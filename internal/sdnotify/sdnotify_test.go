package sdnotify

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/cluster/lease"
	"leasehold/internal/readiness"
)

// manager records what a service manager would have been told.
type manager struct {
	mu   sync.Mutex
	told []string
}

func (m *manager) send(state string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = append(m.told, state)
}

func (m *manager) count(state string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.told {
		if s == state {
			n++
		}
	}
	return n
}

// run runs a notifier in a bubble for a while and returns what it said.
func (m *manager) run(t *testing.T, o *notifier, during func()) []string {
	t.Helper()
	o.send, o.log = m.send, hclog.NewNullLogger()
	if o.restarts == nil {
		o.restarts = func() bool { return false }
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		up, ended := make(chan struct{}), make(chan error)
		go func() { ended <- o.run(ctx, up) }()
		synctest.Wait()
		if m.count("READY=1") != 0 {
			t.Error("READY before the node answers")
		}
		close(up)
		during()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return m.told
}

const stopping = "STOPPING=1\nSTATUS=stopping: finishing calls and handing partitions over"

func TestNotifierSaysUpOnceAndStatusWhenItChanges(t *testing.T) {
	line := atomic.Pointer[string]{}
	set := func(s string) { line.Store(&s) }
	set("waiting for: n2; n3")
	var m manager
	o := &notifier{look: func(context.Context) (string, error) { return *line.Load(), nil }}
	told := m.run(t, o, func() {
		time.Sleep(10 * time.Second)
		set("ready:\n22 partitions")
		time.Sleep(10 * time.Second)
	})
	want := []string{"READY=1", "STATUS=waiting for: n2; n3", "STATUS=ready: 22 partitions", stopping}
	if !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestHeartbeatStopsWhenTheNodeDoesNotGetOn(t *testing.T) {
	var stuck atomic.Bool
	var m manager
	o := &notifier{watchdog: 30 * time.Second, look: func(ctx context.Context) (string, error) {
		if stuck.Load() { // A loop that does not answer: the question ends with its context.
			<-ctx.Done()
			return "", ctx.Err()
		}
		return "ready: 1 partition", nil
	}}
	m.run(t, o, func() {
		time.Sleep(31 * time.Second)
		before := m.count("WATCHDOG=1")
		if before < 4 {
			t.Errorf("%d heartbeats in one watchdog interval, want at least 4", before)
		}
		stuck.Store(true)
		time.Sleep(31 * time.Second)
		if after := m.count("WATCHDOG=1"); after != before {
			t.Errorf("%d heartbeats while nothing got on", after-before)
		}
		stuck.Store(false)
		time.Sleep(5 * time.Second)
		if m.count("WATCHDOG=1") == before {
			t.Error("no heartbeat after the node got on again")
		}
	})
}

func TestNoHeartbeatWithoutAWatchdog(t *testing.T) {
	var m manager
	o := &notifier{look: func(context.Context) (string, error) { return "ready: 0 partitions", nil }}
	told := m.run(t, o, func() { time.Sleep(time.Minute) })
	if want := []string{"READY=1", "STATUS=ready: 0 partitions", stopping}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestStatusSaysWaitingForOnce(t *testing.T) {
	got := waitingFor([]string{"waiting for n2, n3: the first start needs every node", "topic orders: no leader"})
	if want := "waiting for: n2, n3: the first start needs every node; topic orders: no leader"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestNodeThatStartsAgainIsNotSaidToStop(t *testing.T) {
	m := &manager{}
	told := m.run(t, &notifier{
		look:     func(context.Context) (string, error) { return "ready", nil },
		restarts: func() bool { return true },
	}, func() { synctest.Wait() })
	if !slices.Contains(told, "READY=1") || slices.Contains(told, stopping) {
		t.Errorf("told %q", told)
	}
}

// wellBroker is a broker that is ready.
type wellBroker struct{}

func (wellBroker) Ready() []string                 { return nil }
func (wellBroker) ReadyStreams(...string) []string { return nil }

// stuckDriver is a lease protocol that does not answer.
type stuckDriver struct{}

func (stuckDriver) Snapshot(context.Context) (lease.View, error) {
	return lease.View{}, errors.New("no answer")
}

func TestADeadNodeIsNotVouchedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Options{Liveness: new(readiness.Liveness)})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- m.Liveness.Watch(ctx, readiness.Renewal{
				Broker: wellBroker{}, Driver: stuckDriver{}, Bucket: func(context.Context) error { return nil },
			})
		}()
		time.Sleep(2 * time.Minute)
		if line, err := m.proveProgress(ctx); err == nil {
			t.Errorf("the service manager is told %q", line)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
