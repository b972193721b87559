package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"leasehold/internal/harness/fault/namespace"
)

func TestMain(m *testing.M) { namespace.Main(m, nil) }

const port = 7000

// place is where packets come from and go to: a host, or 0, the test's own namespace.
type place = int

// lab is a network under test, of either kind, with an echo service (TCP) and a counter of datagrams (UDP)
// everywhere.
type lab struct {
	t     *testing.T
	hosts hosts
	heard []chan string // datagrams, by place
	posts int
}

func (l *lab) address(at place) string {
	if at == 0 {
		return fmt.Sprintf("%s:%d", Own, port)
	}
	return fmt.Sprintf("%s:%d", l.hosts.Host(at).Address, port)
}

// enter runs f there and fails the test if it fails.
func (l *lab) enter(at place, f func() error) {
	l.t.Helper()
	var err error
	if at == 0 {
		err = f()
	} else {
		err = l.hosts.Host(at).Enter(f)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// need skips what this machine cannot do.
func need(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func bridged(t *testing.T) (*Network, *lab) {
	t.Helper()
	n, err := New(t, 3)
	need(t, err)
	return n, newLab(t, n.hosts)
}

func newLab(t *testing.T, hs hosts) *lab {
	t.Helper()
	l := &lab{t: t, hosts: hs}
	for at := range len(hs) + 1 {
		heard := make(chan string, 4096)
		l.heard = append(l.heard, heard)
		l.enter(at, func() error {
			echo, err := net.Listen("tcp", l.address(at))
			if err != nil {
				return err
			}
			t.Cleanup(func() { echo.Close() })
			go echoAll(echo)
			datagrams, err := net.ListenPacket("udp", l.address(at))
			if err != nil {
				return err
			}
			t.Cleanup(func() { datagrams.Close() })
			go hearAll(datagrams, heard)
			return nil
		})
	}
	return l
}

func echoAll(listener net.Listener) {
	for {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			io.Copy(c, c)
		}()
	}
}

func hearAll(c net.PacketConn, heard chan<- string) {
	buffer := make([]byte, 64)
	for {
		size, _, err := c.ReadFrom(buffer)
		if err != nil {
			return
		}
		heard <- string(buffer[:size])
	}
}

// dial opens a connection to the echo service; patience is for the attempt.
func (l *lab) dial(from, to place, patience time.Duration) (c net.Conn, err error) {
	l.t.Helper()
	l.enter(from, func() error {
		c, err = net.DialTimeout("tcp", l.address(to), patience)
		return nil
	})
	if c != nil {
		l.t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// connect is dial where it must work.
func (l *lab) connect(from, to place) net.Conn {
	l.t.Helper()
	c, err := l.dial(from, to, 10*time.Second)
	if err != nil {
		l.t.Fatalf("connect %d to %d: %v", from, to, err)
	}
	return c
}

// echo sends a byte and waits for it to come back.
func echo(c net.Conn, patience time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.Write([]byte{'x'}); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// post sends so many datagrams and returns how many of them arrived within half a second.
func (l *lab) post(from, to place, count int) int {
	l.t.Helper()
	l.posts++
	text := fmt.Sprint("post ", l.posts)
	l.enter(from, func() error {
		c, err := net.Dial("udp", l.address(to))
		if err != nil {
			return err
		}
		defer c.Close()
		for range count {
			if _, err := io.WriteString(c, text); err != nil {
				return err
			}
		}
		return nil
	})
	limit := time.NewTimer(500 * time.Millisecond)
	defer limit.Stop()
	for arrived := 0; arrived < count; {
		select {
		case heard := <-l.heard[to]:
			if heard == text { // not a late one of an earlier post
				arrived++
			}
		case <-limit.C:
			return arrived
		}
	}
	return count
}

// meet makes all places know one another's addresses, so that what a test sends next is not for finding them.
func (l *lab) meet() {
	l.t.Helper()
	for from := range len(l.heard) {
		for to := range len(l.heard) {
			if got := l.post(from, to, 3); got != 3 {
				l.t.Fatalf("%d of 3 datagrams from %d reached %d before any fault", got, from, to)
			}
		}
	}
}

// expect checks which directions are open: the pairs in cut are not, all others are.
func (l *lab) expect(cut ...[2]place) {
	l.t.Helper()
	closed := map[[2]place]bool{}
	for _, way := range cut {
		closed[way] = true
	}
	for from := range len(l.heard) {
		for to := range len(l.heard) {
			if from == to {
				continue
			}
			want := 3
			if closed[[2]place{from, to}] {
				want = 0
			}
			if got := l.post(from, to, 3); got != want {
				l.t.Errorf("%d of 3 datagrams from %d reached %d, not %d", got, from, to, want)
			}
		}
	}
}

func TestCutsAreSeenOnlyWhereTheyAre(t *testing.T) {
	n, l := bridged(t)
	l.meet()
	if got := n.Effect(); got != 0 {
		t.Errorf("%d packets were touched before any fault", got)
	}
	for _, row := range []struct {
		name string
		cut  func()
		ways [][2]place
	}{
		{"one way", func() { n.Cut(1, 2) }, [][2]place{{1, 2}}},
		{"both ways", func() { n.CutBoth(1, 3) }, [][2]place{{1, 3}, {3, 1}}},
		{"isolated", func() { n.Isolate(2) }, [][2]place{{1, 2}, {2, 1}, {3, 2}, {2, 3}}},
		{"clients", func() { n.CutClients(3) }, [][2]place{{0, 3}, {3, 0}}},
		{"added up", func() { n.Cut(1, 2); n.CutClients(1) }, [][2]place{{1, 2}, {0, 1}, {1, 0}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			l.t = t
			row.cut()
			l.expect(row.ways...)
			n.Heal()
			if got, want := n.Effect(), 3*len(row.ways); got != want {
				t.Errorf("the rules matched %d packets, not %d", got, want)
			}
			l.expect()
		})
	}
}

func TestConnectionsOutliveACut(t *testing.T) {
	n, l := bridged(t)
	c := l.connect(1, 2)
	if err := echo(c, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	n.Isolate(1)
	if err := echo(c, 500*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("while cut off: %v", err)
	}
	if _, err := l.dial(3, 1, 300*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) &&
		!errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a new connection meanwhile: %v", err)
	}
	if n.Effect() == 0 {
		t.Error("no packet was dropped")
	}
	n.Heal()
	c.SetDeadline(time.Now().Add(20 * time.Second)) // retransmission backs off
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("healed: %v", err)
	}
}

func TestLoseLosesAboutThatMuch(t *testing.T) {
	n, l := bridged(t)
	l.meet()
	n.Lose(2, 30)
	lost := 0
	for _, way := range [][2]place{{1, 2}, {2, 1}, {0, 2}, {2, 0}} {
		here := 200 - l.post(way[0], way[1], 200) // as many as a socket holds for a reader that gets no time
		if here < 20 || here > 100 {
			t.Errorf("%d of 200 were lost from %d to %d, not about 60", here, way[0], way[1])
		}
		lost += here
	}
	if lost := 200 - l.post(1, 3, 200); lost != 0 {
		t.Errorf("%d of 200 were lost between others", lost)
	}
	if got := n.Effect(); got != lost {
		t.Errorf("the rules matched %d packets, but %d were lost", got, lost)
	}
}

func TestUnplugTakesTheLinkDown(t *testing.T) {
	n, l := bridged(t)
	l.meet()
	carrier := func() bool { return n.Host(1).running("eth0") }
	if !carrier() {
		t.Error("no carrier while plugged")
	}
	n.Unplug(1)
	for limit := time.Now().Add(10 * time.Second); carrier(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("there is still a carrier while unplugged")
		}
	}
	l.expect([2]place{0, 1}, [2]place{1, 0}, [2]place{1, 2}, [2]place{2, 1}, [2]place{1, 3}, [2]place{3, 1})
	n.Plug(1)
	for other := range len(l.heard) { // until all have found one another again
		if other == 1 {
			continue
		}
		for _, c := range []net.Conn{l.connect(other, 1), l.connect(1, other)} {
			if err := echo(c, 10*time.Second); err != nil {
				t.Error(err)
			}
		}
	}
	l.expect()
}

func TestThrottleSlowsBothWays(t *testing.T) {
	n, l := bridged(t)
	l.meet()
	n.Throttle(1, 1_000_000)
	for _, way := range [][2]place{{1, 2}, {2, 1}} {
		took := l.transfer(l.connect(way[0], way[1]), 200_000)
		if took < time.Second { // 1.6 s, less the burst
			t.Errorf("200,000 bytes from %d to %d and back took %s at 1 Mbit/s", way[0], way[1], took)
		}
	}
	if n.Effect() == 0 {
		t.Error("no packet had to wait")
	}
	n.Heal()
	if took := l.transfer(l.connect(1, 2), 200_000); took > time.Second {
		t.Errorf("healed, 200,000 bytes took %s", took)
	}
	if n.Effect() != 0 {
		t.Error("packets had to wait after Heal")
	}
}

// transfer sends so many bytes to the echo service, reads them back, compares and says how long that took.
func (l *lab) transfer(c net.Conn, size int) time.Duration {
	l.t.Helper()
	started := time.Now()
	c.SetDeadline(started.Add(time.Minute))
	sent := make(chan error, 1)
	value := func(i int) byte { return byte(i * 31 >> 3) }
	go func() {
		data := make([]byte, size)
		for i := range data {
			data[i] = value(i)
		}
		_, err := c.Write(data)
		sent <- err
	}()
	got := make([]byte, size)
	if _, err := io.ReadFull(c, got); err != nil {
		l.t.Fatalf("transfer: %v", err)
	}
	if err := <-sent; err != nil {
		l.t.Fatalf("transfer: %v", err)
	}
	for i, b := range got {
		if b != value(i) {
			l.t.Fatalf("byte %d of the transfer is damaged", i)
		}
	}
	return time.Since(started)
}

func TestRejectRefusesNewConnections(t *testing.T) {
	n, l := bridged(t)
	old, dialled := l.connect(2, 1), l.connect(1, 2)
	n.Reject(1, port, false)
	if _, err := l.dial(2, 1, 5*time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection: %v", err)
	}
	if got := n.Effect(); got == 0 {
		t.Error("nothing was rejected")
	}
	for _, c := range []net.Conn{old, dialled, l.connect(1, 2), l.connect(2, 3)} {
		if err := echo(c, 5*time.Second); err != nil {
			t.Errorf("a connection that the rule is not about: %v", err)
		}
	}
	n.Heal()
	if err := echo(l.connect(2, 1), 5*time.Second); err != nil {
		t.Error("healed:", err)
	}
}

func TestRejectResetsEstablishedConnections(t *testing.T) {
	n, l := bridged(t)
	in, out, client, others := l.connect(2, 1), l.connect(1, 3), l.connect(0, 1), l.connect(2, 3)
	n.Reject(1, port, true)
	if got := n.Effect(); got < 2 {
		t.Errorf("%d connections were reset", got)
	}
	for name, c := range map[string]net.Conn{"in": in, "out": out} {
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.ECONNABORTED) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]net.Conn{"a client's": client, "others'": others} {
		if err := echo(c, 5*time.Second); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRejectDialsRefusesOwnAttempts(t *testing.T) {
	n, l := bridged(t)
	n.RejectDials(1)
	if _, err := l.dial(1, 2, 5*time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection: %v", err)
	}
	for _, c := range []net.Conn{l.connect(2, 1), l.connect(1, 0)} {
		if err := echo(c, 5*time.Second); err != nil {
			t.Error(err)
		}
	}
}

func TestHostIsReachedByItsPath(t *testing.T) {
	n, _ := bridged(t)
	out, err := output("nsenter", "", "--net="+n.Host(2).Namespace(), "ip", "-o", "-4", "addr", "show", "eth0")
	if err != nil {
		t.Fatal(err)
	}
	if want := n.Host(2).Address + "/24"; !strings.Contains(out, want) {
		t.Errorf("in the namespace there is %q, not %s", out, want)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	for range 2 {
		t.Run("", func(t *testing.T) {
			_, l := bridged(t)
			l.meet()
		})
		t.Run("", func(t *testing.T) {
			_, l := switched(t)
			l.meet()
		})
	}
	if !namespace.Own() {
		t.Skip(namespace.Why())
	}
	devices, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	if len(devices) != 1 {
		t.Errorf("there are still devices: %v", devices)
	}
	if rules, err := output("nft", "", "list", "ruleset"); err != nil || rules != "" {
		t.Errorf("there are still rules: %q, %v", rules, err)
	}
}
