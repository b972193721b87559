package handover

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/monotonic"
	"leasehold/internal/harness/scenario"
	"leasehold/internal/harness/testcluster"
	"leasehold/partitioner"
)

var (
	movesFlag      = flag.Int("moves", 1, "how many rounds TestLongMoves makes, each with a new cluster; 5 for figures")
	movesDelayFlag = flag.Duration("moves-delay", 10*time.Millisecond, "how long a call of TestLongMoves takes")
)

const (
	movePartitions = 32
	// Many keys, so that every partition gets its share of the messages.
	moveKeys = 5003
	// What is published before the first move, and how much less than the
	// handlers could take at best is published from then on: every partition
	// stays behind, and the end of the test need not wait long for it.
	moveBurst      = 10_000
	moveShareOfMax = 0.8

	// quietTime is how long nothing is done, for comparison.
	quietTime = 3 * time.Second
	// sessionTTL is the default of the timing "lan".
	sessionTTL = 5 * time.Second
)

// runSpec is a run of three nodes with a group that is behind.
type runSpec struct {
	partitions  int
	keys        int
	handler     testcluster.CallLogOptions
	rate, burst int
}

func startRun(t *testing.T, s runSpec) (*testcluster.Cluster, *testcluster.Load) {
	t.Helper()
	topic := partitioner.Topic{Name: "orders", Partitions: s.partitions}
	c := testcluster.New(t, testcluster.Spec{Topics: []testcluster.Topic{{Name: topic.Name, Partitions: s.partitions}}})
	c.StartGroup(testcluster.Group{Name: scenario.Group, Topic: topic.Name, Handler: c.CallLogHandler(s.handler)})
	load := testcluster.StartLoad(t, c.URLs(), testcluster.LoadSpec{Topic: topic, Keys: s.keys, Rate: s.rate,
		Burst: s.burst})
	testcluster.Eventually(t, testcluster.MoveLimit, func() error {
		if n := load.Published(); n < s.burst {
			return fmt.Errorf("%d of %d published", n, s.burst)
		}
		return nil
	})
	return c, load
}

// leastMoves is the smallest number of partitions that must move until exactly
// these nodes own everything, each its share to ±1.
func leastMoves(o testcluster.Owners, nodes []*testcluster.Node) int {
	var held []int
	total := len(o)
	for _, n := range nodes {
		held = append(held, o.Of(n.Name))
	}
	// Who holds most keeps one more, as long as the division leaves any.
	slices.SortFunc(held, func(a, b int) int { return b - a })
	moves := 0
	for i, have := range held {
		quota := total / len(held)
		if i < total%len(held) {
			quota++
		}
		moves += max(0, quota-have)
	}
	return moves
}

// step is one change to the cluster, with everything that came of it.
type step struct {
	name         string
	from, to     int64 // Monotonic, in ns.
	moved, least int
	kept         map[int]bool  // Partitions that were not claimed meanwhile.
	killed       history.Event // Set if the node was killed, not asked.
}

// mover makes steps and keeps their record.
type mover struct {
	*testcluster.Cluster
	steps []step
	last  testcluster.Owners
}

// step does one thing, after which the cluster comes to rest in balance.
// change returns the smallest number of partitions that have to move for it.
func (m *mover) step(name string, change func() int) step {
	m.T.Helper()
	s := step{name: name, from: monotonic.Now(), kept: make(map[int]bool)}
	s.least = change()
	m.WaitReady(testcluster.StartLimit)
	m.WaitBalanced(testcluster.MoveLimit, scenario.Group)
	now := m.Owners(scenario.Group)
	s.to, s.moved = monotonic.Now(), m.last.Claims(now)
	for p := range now {
		s.kept[p] = now[p].Epoch == m.last[p].Epoch
	}
	m.last = now
	m.steps = append(m.steps, s)
	return s
}

// stop asks the node to stop, and waits until its partitions are elsewhere.
func (m *mover) stop(n *testcluster.Node) int {
	least := leastMoves(m.last, m.Without(n))
	n.Term()
	m.WaitLeft(testcluster.MoveLimit, scenario.Group, n)
	return least
}

func (m *mover) start(n *testcluster.Node) int {
	least := leastMoves(m.last, append(m.Running(), n))
	n.Start()
	return least
}

// joinAndLeave adds a fourth node, of which the others' configs know nothing,
// and takes it out again for good.
func (m *mover) joinAndLeave() {
	m.T.Helper()
	n4 := m.AddNode("n4", m.Nodes...)
	m.wantLeast(m.step("join of a fourth", func() int { return m.start(n4) }))
	m.wantLeast(m.step("SIGTERM and remove of it", func() int {
		least := m.stop(n4)
		testcluster.Eventually(m.T, testcluster.MoveLimit, func() error {
			if code, out := m.Nodes[0].Command("node", "remove", n4.Name, "--yes"); code != 0 {
				return fmt.Errorf("node remove: exit code %d: %s", code, out)
			}
			return nil
		})
		return least
	}))
}

// rolling restarts every node, each as soon as the one before is ready. The
// minimum is what each has to give away when it is asked, and what the last
// one is due when it is back: those before it could do without.
func (m *mover) rolling() int {
	least := 0
	nodes := m.Running()
	for i, n := range nodes {
		least += leastMoves(m.Owners(scenario.Group), m.Without(n))
		n.Term()
		m.WaitLeft(testcluster.MoveLimit, scenario.Group, n)
		if i == len(nodes)-1 {
			least += leastMoves(m.Owners(scenario.Group), append(m.Running(), n))
		}
		n.Start()
		m.WaitReady(testcluster.StartLimit)
	}
	return least
}

// restart kills the node and starts it at once: it takes back what it had,
// and nobody else claims anything. If the machine is too slow for it to be
// back within the session's life, its partitions go to others, rightly.
func (m *mover) restart(n *testcluster.Node) {
	m.T.Helper()
	before := m.last
	var kill history.Event
	var took time.Duration
	s := m.step("kill -9 and start at once", func() int {
		kill = n.Kill()
		n.Start()
		m.WaitReady(testcluster.StartLimit)
		took = time.Duration(monotonic.Now() - kill.At)
		testcluster.Eventually(m.T, testcluster.MoveLimit, func() error {
			now := m.Owners(scenario.Group)
			for p := range now {
				if before[p].Owner == n.Name && now[p].Epoch == before[p].Epoch {
					return fmt.Errorf("nobody claimed partition %d", p)
				}
			}
			return nil
		})
		return before.Of(n.Name)
	})
	m.steps[len(m.steps)-1].killed = kill
	if took > sessionTTL-time.Second {
		m.T.Logf("%s took %s to be ready again: its partitions need not have waited for it", n.Name, took)
		return
	}
	for p, old := range before {
		if now := m.last[p]; now.Owner != old.Owner {
			m.T.Errorf("partition %d moved from %s to %s when %s was restarted", p, old.Owner, now.Owner, n.Name)
		}
	}
	m.wantLeast(s)
}

// wantLeast fails the test if more moved than had to.
func (m *mover) wantLeast(s step) {
	m.T.Helper()
	if s.moved != s.least {
		m.T.Errorf("%s: %d partitions moved, %d had to", s.name, s.moved, s.least)
	}
}

// Every kind of planned move, and a restart, with every partition backlogged:
// no more partitions move than have to, those that do stand still for a moment
// only, and nothing is handed out twice.
func TestLongMoves(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	var all tally
	for i := range *movesFlag {
		t.Run(fmt.Sprintf("Round%d", i+1), func(t *testing.T) {
			all.add(t, moveRound(t, i))
		})
	}
	t.Log(all.String())
}

func moveRound(t *testing.T, round int) tally {
	best := float64(movePartitions) / (*movesDelayFlag + time.Millisecond).Seconds()
	c, load := startRun(t, runSpec{
		partitions: movePartitions, keys: moveKeys, handler: testcluster.CallLogOptions{Delay: *movesDelayFlag},
		rate: int(moveShareOfMax * best), burst: moveBurst,
	})
	m := &mover{Cluster: c, last: c.Owners(scenario.Group)}
	m.step("nothing", func() int { testcluster.Pass(quietTime); return 0 })
	stopped, killed := c.Nodes[round%3], c.Nodes[(round+1)%3]
	m.wantLeast(m.step("SIGTERM", func() int { return m.stop(stopped) }))
	m.wantLeast(m.step("start", func() int { return m.start(stopped) }))
	m.restart(killed)
	m.step("rolling restart", m.rolling)
	m.joinAndLeave()
	h := scenario.Judge(t, c, load, history.Rules{
		Groups:      []string{scenario.Group},
		Repeats:     history.RepeatsAfterOwnerKilled,
		MinAcked:    moveBurst,
		MinKeys:     moveKeys / 2,
		MinHandoffs: 4 * movePartitions / 4,
	})
	return newTally(h, m.steps)
}
