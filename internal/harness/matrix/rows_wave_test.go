package matrix

import (
	"fmt"
	"time"

	"leasehold/internal/harness/fault/disk"
	"leasehold/internal/harness/history"
	"leasehold/internal/harness/testcluster"
)

// Waves of mixed faults: a quarter of each is quiet.
const (
	waveLength  = 60 * time.Second
	waveQuiet   = waveLength / 4
	struckAtMax = 2 // Nodes at a time: also more than a quorum can bear.
)

var waveRows = []Row{{
	Name: "wave", Expect: "faults of all kinds on one or two nodes at a time, then all heals", CI: true, Rounds: 2,
	Load:  Steady,
	Needs: []Need{Disks, Network}, Stall: waveLength, Gap: waveLength,
	Rules: lateTails,
	Round: (*World).wave,
}}

// strike is a fault that a wave is made of. It does what it does to a node and returns what heals it and says what
// effect was seen: "" is none, and the fault does not count.
type strike struct {
	kind Kind
	// network: it takes all rules of the network away when it heals, so there is
	// one of these at a time.
	network bool
	do      func(w *World, n *testcluster.Node) (heal func() (effect string))
}

var strikes = []strike{
	{kind: inWave + ": kill -9", do: func(w *World, n *testcluster.Node) func() string {
		n.Kill()
		return func() string { n.Start(); return "its process was gone" }
	}},
	{kind: inWave + ": freeze", do: func(w *World, n *testcluster.Node) func() string {
		goOn := w.hold(n)
		return func() string { goOn(); return "its processes were stopped" }
	}},
	{kind: inWave + ": cut off", network: true, do: func(w *World, n *testcluster.Node) func() string {
		w.Net.Isolate(w.Host(n))
		return w.healNetwork
	}},
	{kind: inWave + ": cut off in one direction", network: true, do: func(w *World, n *testcluster.Node) func() string {
		w.Net.Cut(w.Host(n), w.Host(w.other(n)))
		return w.healNetwork
	}},
	{kind: inWave + ": packets lost", network: true, do: func(w *World, n *testcluster.Node) func() string {
		w.Net.Lose(w.Host(n), 20)
		return w.healNetwork
	}},
	{kind: inWave + ": power loss", do: func(w *World, n *testcluster.Node) func() string {
		w.losePower(n)
		return func() string { n.Start(); return "its file system was shut down, its process gone" }
	}},
	{kind: inWave + ": disk full", do: func(w *World, n *testcluster.Node) func() string {
		d := w.DiskOf(n)
		w.must(d.Fill())
		room, err := d.Room()
		w.must(err)
		return func() string {
			w.must(d.Free())
			return fmt.Sprintf("room for %d bytes", room)
		}
	}},
	{kind: inWave + ": fsync slow", do: func(w *World, n *testcluster.Node) func() string {
		slow := w.inject(n, disk.Fault{Delay: time.Second})
		return func() string {
			w.must(slow.Stop())
			hits, err := slow.Hits()
			w.must(err)
			return some(hits, "syncs took a second")
		}
	}},
}

// some is how often an effect was seen, "" for never.
func some(n int, what string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n, " ", what)
}

// struck is a node under a strike.
type struck struct {
	strike
	node  *testcluster.Node
	until time.Time
	heal  func() string
}

// wave strikes nodes at random until its time is over, then heals everything and waits until all is well.
func (w *World) wave() {
	w.T.Helper()
	var active []struck
	end := time.Now().Add(waveLength - waveQuiet)
	for time.Now().Before(end) {
		active = w.healDue(active, time.Now())
		if len(active) < struckAtMax {
			if s, ok := w.strikeSome(active); ok {
				active = append(active, s)
			}
		}
		w.Wait(w.Between(time.Second, 5*time.Second))
	}
	w.healDue(active, end.Add(time.Hour))
	w.revive()
	w.Wait(waveQuiet)
}

// strikeSome strikes a node that is well, with a strike that goes with those that are active.
func (w *World) strikeSome(active []struck) (struck, bool) {
	w.T.Helper()
	n, s := w.Pick(), strikes[w.Random.IntN(len(strikes))]
	for _, other := range active {
		if other.node == n || other.network && s.network {
			return struck{}, false
		}
	}
	if n.StartIfGone(100*time.Millisecond) || n.Ready() != nil {
		return struck{}, false // it gave up after a strike before, or has yet to recover
	}
	n.Struck()
	return struck{strike: s, node: n, heal: s.do(w, n), until: time.Now().Add(w.Between(time.Second, 12*time.Second))},
		true
}

// healDue heals what is due by then, counts what had an effect and returns the rest.
func (w *World) healDue(active []struck, by time.Time) []struck {
	w.T.Helper()
	var rest []struck
	for _, s := range active {
		if s.until.After(by) {
			rest = append(rest, s)
			continue
		}
		if effect := s.heal(); effect != "" {
			w.Did(s.kind, history.Event{Node: s.node.Name}, "%s", effect)
		}
		s.node.Struck()
		s.node.StartIfGone(100 * time.Millisecond)
	}
	return rest
}

func (w *World) healNetwork() string {
	w.Net.Heal()
	return some(w.Net.Effect(), "packets met it")
}
