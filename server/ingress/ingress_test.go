package ingress

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// What the broker answers while the ingress closes still reaches the client; what a client sends meanwhile is not read.
func TestCloseGivesClientsTheAnswersUnderWay(t *testing.T) {
	r := newRig(t, nil)
	requests := make(chan *nats.Msg, 100)
	_, err := r.inside.ChanSubscribe("orders.*", requests)
	if err := errors.Join(err, r.inside.Flush()); err != nil {
		t.Fatal(err)
	}
	p := r.dial(t)
	p.say(t, "SUB _INBOX.a 1\r\n"+strings.Repeat("PUB orders.a _INBOX.a 1\r\nx\r\n", 50))
	var asked []*nats.Msg
	for range 50 {
		asked = append(asked, <-requests)
	}
	closed := make(chan bool)
	go func() {
		defer close(closed)
		r.Close()
	}()
	eventually(t, func() error {
		if !r.stopped.Load() {
			return errors.New("not closing yet")
		}
		return nil
	})
	for _, m := range asked {
		_ = m.Respond([]byte("late"))
	}
	_ = r.inside.Flush()
	if told := p.closed(t); len(told) != 50 {
		t.Errorf("%d answers of 50 came: %.200q", len(told), told)
	}
	<-closed
	<-r.ran
	if conn, err := r.dialRaw(); err == nil {
		t.Error("the port is still open", conn.Close())
	}
	if conn, err := r.Dial("alice"); err == nil {
		t.Error("a connection from inside after Close", conn.Close())
	}
	if err := r.idle(); err != nil {
		t.Error(err)
	}
}

// Close does not wait for clients that are stuck anywhere.
func TestCloseWaitsForNobody(t *testing.T) {
	t.Parallel()
	press := User{Name: "press", PasswordHash: hashed(t, "right"), Publish: []string{"orders.*"}}
	r := newRig(t, func(o *Options) {
		o.Users = append(o.Users[:len(o.Users):len(o.Users)], press)
		o.Limits.Bytes = 1 << 20
	})
	heard, err := r.inside.SubscribeSync("orders.*") // nobody answers
	if err := errors.Join(err, r.inside.Flush()); err != nil {
		t.Fatal(err)
	}
	for range cap(r.passwords.slots) { // and no check ends
		r.passwords.slots <- true
	}
	large := "PUB orders.a _INBOX.a 500000\r\n" + strings.Repeat("x", 500000) + "\r\n"
	for _, said := range []string{
		"", "PUB", "CONNECT {\"user\":\"press\",\"pass\":\"wrong\"}\r\n",
		"CONNECT {\"user\":\"press\",\"pass\":\"wrong\"}\r\n", large[:300000], large + large, large + large,
		strings.Repeat("PUB orders.a 0\r\n\r\n", 5000),
	} {
		conn, err := r.dialRaw()
		if err != nil {
			t.Fatal(err)
		}
		p := newPeer(t, conn, "")
		_ = p.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		_, _ = io.WriteString(p, said)
	}
	if _, err := heard.NextMsg(hang); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		r.passwords.mu.Lock()
		defer r.passwords.mu.Unlock()
		if r.passwords.queued != 2 {
			return fmt.Errorf("%d wait for a check", r.passwords.queued)
		}
		return nil
	})
	done := make(chan bool)
	go func() {
		defer close(done)
		r.stop()
	}()
	select {
	case <-done:
	case <-time.After(hang):
		t.Fatal("Close hangs")
	}
}

// Thousands of connections that come and go, at every stage, leave nothing behind.
func TestChurnLeavesNothing(t *testing.T) {
	const connections, atATime = 2000, 64
	r := newRig(t, nil)
	r.answering(t)
	before := runtime.NumGoroutine()
	lines := []string{
		"", "PUB", "PING\r\n", "CONNECT {\"verbose\":false}\r\nPUB orders.a 5\r\nx",
		"SUB _INBOX.> 1\r\nPUB orders.a _INBOX.a 1\r\nx\r\n", "PUB other 1000\r\n",
		"nonsense\r\n", "CONNECT {\"user\":\"x\"}\r\n", "PUB orders.a 900000\r\n" + strings.Repeat("x", 30000),
	}
	slots := make(chan bool, atATime)
	var all sync.WaitGroup
	for i := range connections {
		slots <- true
		all.Go(func() {
			defer func() { <-slots }()
			conn, err := r.dialRaw()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.SetDeadline(time.Now().Add(hang))
			_, _ = io.WriteString(conn, lines[i%len(lines)])
			if i%3 == 0 {
				_, _ = io.ReadFull(conn, make([]byte, 10))
			}
			if i%2 == 0 {
				_ = conn.(*net.TCPConn).SetLinger(0)
			}
			_ = conn.Close()
		})
	}
	all.Wait()
	eventually(t, r.idle)
	r.pending.mu.Lock()
	if n := len(r.pending.waiting) + len(r.pending.byAddress); n != 0 {
		t.Errorf("%d are left at the doorstep", n)
	}
	r.pending.mu.Unlock()
	r.publishes(t, r.dial(t))
	eventually(t, func() error {
		if n := runtime.NumGoroutine(); n > before+10 {
			return fmt.Errorf("%d goroutines, %d before", n, before)
		}
		return nil
	})
}

// A connection is ended by several at once, with its answer on the way.
func TestEndByManyAtOnceCountsOnce(t *testing.T) {
	r := newRig(t, nil)
	r.answering(t)
	for range 300 {
		p := r.as(t, "alice")
		p.say(t, "PUB orders.a 1\r\nx\r\nPUB orders.a 1\r\nx\r\n")
		c := r.only(t)
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				if i == 0 {
					_ = p.Close()
					return
				}
				c.end(nil)
			})
		}
		all.Wait()
		eventually(t, r.idle)
	}
}

// A reader that is stuck holds up nobody else, and loses its connection at the write deadline.
func TestStuckReaderHoldsUpNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *Options) { o.Limits.Connections = 1000 })
	r.answering(t)
	stuck := r.as(t, "alice")
	stuck.say(t, "SUB _INBOX.a 1\r\n")
	c := r.only(t)
	flood(t, stuck, "PUB orders.a _INBOX.a 0\r\n\r\n")
	for range 100 {
		r.publishes(t, r.as(t, "alice"))
	}
	eventually(t, func() error {
		if !c.link.hasEnded() {
			return errors.New("still connected")
		}
		return nil
	})
}

// The coarse clock starts with the ingress, and so takes no part in steps of the wall clock.
func TestCoarseClockIsNotTheWallClock(t *testing.T) {
	r := newRig(t, nil)
	r.dial(t).synced(t)
	c := r.only(t)
	for name, at := range map[string]int64{"now": r.now.Load(), "heard": c.pulse.heard.Load()} {
		if at < 1 || at > int64(hang) {
			t.Errorf("%s is %d", name, at)
		}
	}
}
