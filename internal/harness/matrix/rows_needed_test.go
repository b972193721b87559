package matrix

import (
	"testing"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/overlay"
	"leasehold/internal/harness/testcluster"
)

// mechanisms are the edits that take each mechanism out of the source.
var mechanisms = map[string][]overlay.Edit{
	"child-kill": {{File: "worker/handler/process/process.go", Old: ", Pdeathsig: syscall.SIGKILL}", New: "}"}},
	"fence": {
		{File: "cluster/watchdog.go", Old: "	if int64(w.clock.Now()) < w.deadline() {\n\t\treturn true",
			New: "	if w.deadline() != 1 {\n\t\treturn true"},
		{File: "cluster/watchdog.go", Old: "if now < fence || fence == 0 {", New: "if now < fence || fence != 1 {"},
		{File: "cluster/lease/self.go", Old: "	c.self.expired = true\n\tc.cancelAll(ErrFenced)",
			New: "	c.self.expired = true"},
	},
	"replica-guard": {
		{File: "server/replicas/replicas.go", Old: "	if c.Last == 0 {", New: "	if c.Last >= 0 {"},
		{File: "server/replicas/replicas.go", Old: "missing != \"\" || c.Last == 0 ||",
			New: "missing != \"\" || c.Last >= 0 ||"},
		{
			File: "worker/reader/gap.go", Old: "if err == nil && first > s.pos {\n\t\t\ts.sink.skip(min(first, to))",
			New: "if err == nil || first > s.pos {\n\t\t\ts.sink.skip(to)",
		},
	},
}

func TestMechanismsAreWhereTheirEditsSay(t *testing.T) {
	for name, edits := range mechanisms {
		if _, err := overlay.Write(t.TempDir(), edits); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// neededRows take one safety mechanism each out of the source, and want the fault that it is for to show: else that
// fault's row would prove nothing.
var neededRows = []Row{
	{
		Name: "without-child-kill", Expect: "a handler that outlives its node works on beside the next owner's",
		Load:  Workload{Partitions: 8, Keys: 100, Rate: 20, Burst: 100, Delay: 9 * time.Second, Deaf: true},
		Spec:  without("child-kill"),
		Found: []history.Kind{history.Overlap},
		Round: func(w *World) {
			w.Wait(2 * time.Second)
			n := w.follower()
			e := n.Kill()
			w.Did(killOrphans, e, "process gone")
			w.WaitLeft(moveLimit, Group, n)
			w.Wait(10 * time.Second)
		},
	},
	{
		Name: "without-fence", Expect: "a node that is cut off calls on beside the new owners", Load: Backlogged,
		Needs: []Need{Network},
		Spec:  without("fence"),
		Found: []history.Kind{history.FenceRegress, history.Overlap},
		Round: cutForThreeTTLs,
	},
	{
		Name: "without-replica-guard", Expect: "a flipped bit makes its node skip messages", Load: Steady,
		Spec: func(w *World, s *testcluster.Spec) {
			kept(w, s)
			without("replica-guard")(w, s)
		},
		Found: []history.Kind{history.Lost},
		Round: func(w *World) { w.rotInBacklog() },
	},
}

// cutForThreeTTLs cuts a node off from the others until they have its partitions, and a while longer, and joins it
// again.
func cutForThreeTTLs(w *World) {
	n := w.follower()
	n.Struck()
	w.Net.Isolate(w.Host(n))
	w.Wait(3 * ttl)
	w.healed(cutTTLs, n.Struck())
	w.Wait(2 * ttl)
}

// without makes a cluster of nodes whose source was edited.
func without(mechanism string) func(*World, *testcluster.Spec) {
	return func(w *World, s *testcluster.Spec) {
		s.Binary = testcluster.Edited(w.T, mechanism, mechanisms[mechanism])
	}
}
