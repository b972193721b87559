package matrix

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"leasehold/internal/harness/fault/cgroup"
	"leasehold/internal/harness/fault/disk"
	"leasehold/internal/harness/fault/network"
	"leasehold/internal/harness/history"
	"leasehold/internal/harness/testcluster"
	"leasehold/partitioner"
)

// Group is the group whose calls are judged, Topic what it consumes.
const (
	Group = "calls"
	Topic = "orders"
)

// ttl is how long a session lives under the timing lan.
const ttl = 5 * time.Second

// Generous, for two shared cores: they catch hangs.
const (
	startLimit = 3 * time.Minute
	moveLimit  = 2 * time.Minute
	drainLimit = 5 * time.Minute
	// lostLimit is how long nothing more is handled before the rest is lost.
	lostLimit = 2 * time.Minute
)

// World is a row's cluster under load, and what was done to it.
type World struct {
	*testcluster.Cluster
	T      testing.TB
	Row    Row
	Seed   uint64
	Random *rand.Rand
	Load   *testcluster.Load
	// Disks are the nodes' file systems, by place of the node, Net or Switch is
	// their network: what the row needs of them.
	Disks  []*disk.Disk
	Net    *network.Network
	Switch *network.Switched
	// Groups are the nodes' control groups, by place of the node, if the row
	// needs them; see Grouped.
	Groups []*cgroup.Group

	faults []Fault
}

// Fault is one thing that was done, with the effect that was seen.
type Fault struct {
	Kind   Kind
	Node   string // "" where it was done to all.
	Effect string
	// Event is when, in the history; its zero value stands for a fault whose
	// recovery is not measured.
	Event history.Event
}

// newWorld makes what the row needs and starts its cluster and load. An error says why this machine cannot.
func newWorld(t testing.TB, row Row, seed uint64) (*World, error) {
	t.Helper()
	w := &World{T: t, Row: row, Seed: seed, Random: rand.New(rand.NewPCG(seed, 7))}
	spec := testcluster.Spec{Nodes: 3, Topics: []testcluster.Topic{{Name: Topic, Partitions: row.Load.Partitions}}}
	if row.Spec != nil {
		row.Spec(w, &spec)
	}
	spec.Hosts = make([]testcluster.Host, spec.Nodes)
	if err := w.makeHosts(spec.Hosts); err != nil {
		return nil, err
	}
	w.Cluster = testcluster.New(t, spec)
	w.limitMemory()
	w.StartGroup(testcluster.Group{Name: Group, Topic: Topic, Handler: w.CallLogHandler(testcluster.CallLogOptions{
		Delay: row.Load.Delay, RetryEvery: row.Load.RetryEvery, Deaf: row.Load.Deaf,
	})})
	w.Load = testcluster.StartLoad(t, w.URLs(), testcluster.LoadSpec{
		Topic: partitioner.Topic{Name: Topic, Partitions: row.Load.Partitions},
		Keys:  row.Load.Keys, Rate: row.Load.Rate, Burst: row.Load.Burst, Seed: seed, Data: row.Load.data,
	})
	w.Flows(max(row.Load.Burst, 50))
	return w, nil
}

// Did counts a fault of the kind, with the effect that was seen. A fault without an effect is none, and fails the row.
func (w *World) Did(kind Kind, e history.Event, effect string, args ...any) {
	w.T.Helper()
	f := Fault{Kind: kind, Node: e.Node, Effect: fmt.Sprintf(effect, args...), Event: e}
	if f.Effect == "" {
		w.T.Fatalf("%s had no effect", kind)
	}
	w.faults = append(w.faults, f)
	w.T.Logf("%s %s: %s", f.Kind, f.Node, f.Effect)
}

// must ends the row when something of the test itself does not work.
func (w *World) must(err error) {
	w.T.Helper()
	if err != nil {
		w.T.Fatal(err)
	}
}

// Between is any time between the two.
func (w *World) Between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.Random.Int64N(int64(most-least)+1))
}

// Wait lets time pass.
func (w *World) Wait(d time.Duration) { <-time.NewTimer(d).C }

// judge waits until the cluster is whole, stops the load, waits until all is handled and checks the history.
func (w *World) judge() (history.History, history.Report) {
	w.T.Helper()
	sound := len(w.Row.Found) == 0
	if sound {
		w.revive()
	}
	published := w.Load.Stop(w.T, drainLimit)
	if sound {
		w.drained()
	}
	h := w.History(published)
	return h, history.Check(h, w.Row.rules(len(w.faults)))
}

// drained waits until all that was acknowledged is handled, and then until the nodes say so, too: what was stored
// without an acknowledgement is then not on its way. What stays unhandled is for the check of the history to tell.
func (w *World) drained() {
	w.T.Helper()
	if err := w.handled(0); err != nil {
		w.T.Log(err)
		return
	}
	w.WaitDrained(drainLimit, Group)
}
