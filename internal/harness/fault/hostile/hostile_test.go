package hostile

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// victim is a listener that counts. A rude one closes at the first byte.
type victim struct {
	net.Listener
	made, bytes atomic.Int64
	conns       sync.WaitGroup
}

func listen(t *testing.T, rude bool) *victim {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{Listener: l}
	v.conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			v.made.Add(1)
			v.conns.Go(func() {
				defer conn.Close()
				if rude {
					n, _ := conn.Read(make([]byte, 1))
					v.bytes.Add(int64(n))
					return
				}
				n, _ := io.Copy(io.Discard, conn) // a reset is to be expected
				v.bytes.Add(n)
			})
		}
	})
	t.Cleanup(func() { l.Close() })
	return v
}

func TestAttackDoesWhatItReports(t *testing.T) {
	v := listen(t, false)
	began := time.Now()
	report, err := Attack(t.Context(), Spec{Addresses: []string{v.Addr().String()}, For: 3 * time.Second, Seed: 7,
		Attackers: 16, Idle: 200})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("three seconds took %v", took)
	}
	t.Logf("\n%s", report)
	made := report.Total.Made + report.Idle.Made
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(5 * time.Second); v.made.Load() < int64(made) && time.Now().Before(until); {
		<-tick.C // some may still wait to be accepted
	}
	v.Close()
	v.conns.Wait()
	// One of each attacker may have been on its way at the end.
	if came := int(v.made.Load()); came < made || came > made+16 || report.Idle.Made != 200 || report.Idle.Closed != 0 {
		t.Errorf("%d connections came", came)
	}
	// A reset may throw away what has not been read.
	if got := v.bytes.Load(); got > report.Total.Sent || got < report.Total.Sent/4 || got < 1<<20 {
		t.Errorf("%d bytes came", got)
	}
	if len(report.Kinds) < len(kinds)*3/4 {
		t.Errorf("only %d kinds of attack", len(report.Kinds))
	}
}

func TestAttackSeesItselfTurnedAway(t *testing.T) {
	rude, gone := listen(t, true), listen(t, false)
	gone.Close()
	report, err := Attack(t.Context(), Spec{Addresses: []string{rude.Addr().String()}, For: time.Second})
	if err != nil || report.Total.Closed == 0 {
		t.Errorf("closed upon: %v, %v", report, err)
	}
	report, err = Attack(t.Context(), Spec{Addresses: []string{gone.Addr().String()}, For: time.Second, Idle: 3})
	if err != nil || report.Total.Refused == 0 || report.Total.Made != 0 || report.Idle.Refused != 3 {
		t.Errorf("nobody there: %v, %v", report, err)
	}
}

func TestAttackEndsWithItsContext(t *testing.T) {
	v := listen(t, false)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if r, err := Attack(ctx, Spec{Addresses: []string{v.Addr().String()}, For: time.Hour, Attackers: -1, Idle: 5,
		Hello: "hi"}); err != nil || time.Since(began) > 10*time.Second || r.Idle.Made != 5 || r.Idle.Sent != 10 ||
		len(r.Kinds) != 0 {
		t.Errorf("%v, %v after %v", r, err, time.Since(began))
	}
	if _, err := Attack(ctx, Spec{}); err == nil {
		t.Error("an attack on nobody")
	}
}

func TestIdleConnectionsComeAndGoAtTheirPace(t *testing.T) {
	v := listen(t, false)
	began := time.Now()
	report, err := Attack(t.Context(), Spec{Addresses: []string{v.Addr().String()}, For: time.Second, Attackers: -1,
		Idle: 1000, IdleRate: 200})
	if err != nil || report.Idle.Made > 300 || report.Idle.Made < 50 || time.Since(began) < 1500*time.Millisecond {
		t.Errorf("%v, %v after %v", report, err, time.Since(began))
	}
}

// What is sent depends on the seed alone, and no connection sends much.
func TestAttacksCanBeRepeated(t *testing.T) {
	for _, k := range kinds {
		for seed := range uint64(20) {
			one, two := k.data(rand.New(rand.NewPCG(seed, 0))), k.data(rand.New(rand.NewPCG(seed, 0)))
			if !bytes.Equal(one, two) || len(one) > 4<<20 {
				t.Errorf("%s of seed %d: %d and %d bytes, equal %v", k.name, seed, len(one), len(two), bytes.Equal(one, two))
			}
		}
	}
}
