// Package hostile is an attacker for tests: for a bounded time it sends to TCP
// ports what nobody in their right mind would. It wants nothing but to see the
// other side still standing.
package hostile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	dialLimit  = 3 * time.Second
	writeLimit = time.Second
	// hearLimit is how long an attacker listens for what comes back.
	hearLimit = 200 * time.Millisecond
	// slowGap and slowLimit are for attackers that send byte by byte.
	slowGap   = 50 * time.Millisecond
	slowLimit = 5 * time.Second
	// idleDialers open the idle connections.
	idleDialers = 16
)

// Spec says what to attack, and how.
type Spec struct {
	Addresses []string      // host:port each
	For       time.Duration // after which everything is closed
	Seed      uint64
	Attackers int    // at the same time and for each address; 0: 4, below 0: none
	Idle      int    // connections besides, for all addresses together
	Hello     string // all that is ever sent on each of those
	IdleRate  int    // of those that come, and at the end go, in a second; 0: as fast as they can
}

// Count is what came of connections.
type Count struct {
	Made    int   // connections
	Refused int   // not made
	Closed  int   // by the other side, while we looked
	Sent    int64 // bytes

	// Of an Assault.
	Messages int // sent, whatever a message is to its form
	Answered int // of them, acknowledged
	Rejected int // of them, with an error
}

func (c *Count) add(d Count) {
	c.Made, c.Refused, c.Closed, c.Sent = c.Made+d.Made, c.Refused+d.Refused, c.Closed+d.Closed, c.Sent+d.Sent
	c.Messages, c.Answered, c.Rejected = c.Messages+d.Messages, c.Answered+d.Answered, c.Rejected+d.Rejected
}

// Report is what an attack did.
type Report struct {
	Kinds map[string]Count // by kind of attack
	Idle  Count            // the idle connections
	Total Count            // of Kinds
}

// String is a line for each kind.
func (r Report) String() string {
	var b strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(r.Kinds)) {
		fmt.Fprintf(&b, "%-18s %v\n", kind, r.Kinds[kind])
	}
	fmt.Fprintf(&b, "%-18s %v\n%-18s %v", "all", r.Total, "idle", r.Idle)
	return b.String()
}

// String is the numbers with their names.
func (c Count) String() string {
	return fmt.Sprintf("%d connections made, %d refused, %d closed by the other side, %d bytes sent", c.Made, c.Refused,
		c.Closed, c.Sent)
}

// Attack attacks, until the time is over or the context is done, and then for
// as long as paced idle connections take to go.
func Attack(ctx context.Context, s Spec) (Report, error) {
	if len(s.Addresses) == 0 || s.For <= 0 {
		return Report{}, errors.New("an attack needs addresses and a time")
	}
	if s.Attackers == 0 {
		s.Attackers = 4
	}
	ctx, cancel := context.WithTimeout(ctx, s.For)
	defer cancel()
	a := attack{Spec: s, report: Report{Kinds: make(map[string]Count)}}
	var all sync.WaitGroup
	for i := range len(s.Addresses) * max(s.Attackers, 0) {
		random := rand.New(rand.NewPCG(s.Seed, uint64(i)))
		all.Go(func() { a.assail(ctx, s.Addresses[i%len(s.Addresses)], random) })
	}
	for i := range idleDialers {
		all.Go(func() { a.idle(ctx, i) })
	}
	all.Wait()
	for _, c := range a.report.Kinds {
		a.report.Total.add(c)
	}
	return a.report, nil
}

type attack struct {
	Spec
	mu     sync.Mutex
	report Report
}

// assail attacks one address, one connection after the other.
func (a *attack) assail(ctx context.Context, address string, random *rand.Rand) {
	for ctx.Err() == nil {
		k := kinds[random.IntN(len(kinds))]
		count := k.strike(ctx, address, random)
		a.mu.Lock()
		sum := a.report.Kinds[k.name]
		sum.add(count)
		a.report.Kinds[k.name] = sum
		a.mu.Unlock()
		if count.Refused > 0 {
			rest(ctx, hearLimit) // instead of asking as fast as it says no
		}
	}
}

// strike makes one connection for one attack.
func (k kind) strike(ctx context.Context, address string, random *rand.Rand) (c Count) {
	data, abrupt := k.data(random), random.IntN(3) == 0
	conn, err := dial(ctx, address)
	switch {
	case err != nil && ctx.Err() != nil:
		return Count{} // It may have been on its way.
	case err != nil:
		return Count{Refused: 1}
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c.Made = 1
	var n int
	if k.slow {
		n, err = trickle(ctx, conn, data)
	} else {
		_ = conn.SetWriteDeadline(time.Now().Add(writeLimit)) // fails only if it is closed
		n, err = conn.Write(data)
	}
	c.Sent = int64(n)
	if closedByPeer(err) || heardClose(conn) {
		c.Closed = 1
	}
	if abrupt {
		_ = conn.SetLinger(0) // a reset instead of an orderly end
	}
	return c
}

// trickle sends byte by byte.
func trickle(ctx context.Context, conn net.Conn, data []byte) (n int, err error) {
	until := time.Now().Add(slowLimit)
	for n < len(data) && time.Now().Before(until) && ctx.Err() == nil {
		if _, err := conn.Write(data[n : n+1]); err != nil {
			return n, err
		}
		n++
		rest(ctx, slowGap)
	}
	return n, nil
}

// heardClose listens for a while, and tells whether the other side closed.
func heardClose(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(hearLimit)) // fails only if it is closed
	_, err := io.CopyN(io.Discard, conn, 1<<20)
	return closedByPeer(err)
}

func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// idle opens its share of the idle connections and holds them to the end.
func (a *attack) idle(ctx context.Context, dialer int) {
	var conns []*net.TCPConn
	var c Count
	for i := dialer; i < a.Idle && ctx.Err() == nil; i += idleDialers {
		conn, err := dial(ctx, a.Addresses[i%len(a.Addresses)])
		if err != nil {
			c.Refused++
			continue
		}
		conns = append(conns, conn)
		n, _ := conn.Write([]byte(a.Hello)) // gone tells, at the end
		c.Sent += int64(n)
		rest(ctx, a.pace())
	}
	c.Made = len(conns)
	if a.Idle > dialer {
		<-ctx.Done()
	}
	for _, conn := range conns {
		if gone(conn) {
			c.Closed++
		}
		conn.Close()
		rest(context.WithoutCancel(ctx), a.pace())
	}
	a.mu.Lock()
	a.report.Idle.add(c)
	a.mu.Unlock()
}

// pace is how long each dialer waits between two connections.
func (a *attack) pace() time.Duration {
	if a.IdleRate == 0 {
		return 0
	}
	return idleDialers * time.Second / time.Duration(a.IdleRate)
}

// gone tells whether the other side has closed the connection, whatever it
// said before.
func gone(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond)) // fails only if it is closed
	_, err := io.Copy(io.Discard, conn)
	return err == nil || closedByPeer(err)
}

func dial(ctx context.Context, address string) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: dialLimit}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
