package lease

import (
	"testing"
	"time"

	"leasehold/internal/ownership"
)

// benchPartitions is how many partitions the benchmarks' node owns.
const benchPartitions = 1024

// benchNode is a core whose writes all land at once.
type benchNode struct {
	core      *Core
	now       Time
	rev       uint64
	owned     []Key
	epochs    map[Key]uint64
	committed int
}

// newBenchNode is a node that runs alone and owns everything.
func newBenchNode(b *testing.B) *benchNode {
	cfg := testConfig()
	cfg.Groups[0].Partitions = benchPartitions
	n := &benchNode{core: New(cfg), now: testNow, epochs: map[Key]uint64{}}
	n.step(Synced{})
	for deadline := n.now + time.Hour; len(n.owned) < benchPartitions; n.tick() {
		if n.now > deadline {
			b.Fatalf("the node owns %d partitions", len(n.owned))
		}
	}
	return n
}

func (n *benchNode) tick() {
	n.now += testRenew / 10
	n.step(Tick{})
}

// step feeds the core, and everything that follows at once.
func (n *benchNode) step(in Input) {
	for _, a := range n.core.Step(n.now, in) {
		switch a := a.(type) {
		case SaveBoot:
			n.step(SavedBoot(a))
		case Write:
			n.rev++
			n.step(WriteDone{ID: a.ID, OK: true, Revision: n.rev})
		case Start:
			n.owned, n.epochs[a.Key] = append(n.owned, a.Key), a.Epoch
		case Committed:
			n.committed++
		}
	}
}

// BenchmarkTick is one look at everything that time may have made due, ten times a renewal, with nothing to do.
func BenchmarkTick(b *testing.B) {
	n := newBenchNode(b)
	b.ReportAllocs()
	for b.Loop() {
		n.step(Tick{})
	}
}

// BenchmarkCheckpoint is the core's part of storing how far one lane has come, from its progress to the answer.
func BenchmarkCheckpoint(b *testing.B) {
	n := newBenchNode(b)
	n.committed = 0
	b.ReportAllocs()
	done := uint64(100)
	for i := 0; b.Loop(); i++ {
		k := n.owned[i%len(n.owned)]
		done++
		n.step(Progressed{Key: k, Epoch: n.epochs[k], Progress: ownership.Progress{Checkpoint: done}})
	}
	if n.committed != b.N {
		b.Errorf("%d checkpoints are stored, want %d", n.committed, b.N)
	}
}
