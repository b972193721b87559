package chaos

import (
	"time"

	"leasehold/internal/history"
	"leasehold/internal/overlay"
	"leasehold/internal/testcluster"
)

// neededRows take one safety mechanism each out of the source, and want the fault that it is for to show: else that fault's
// row would prove nothing.
var neededRows = []Row{
	{
		Name: "without-child-kill", Expect: "a handler that outlives its node works on beside the next owner's",
		Load:  Workload{Partitions: 8, Keys: 100, Rate: 20, Burst: 100, Delay: 7 * time.Second, Deaf: true},
		Spec:  without("child-kill", overlay.Edit{File: "worker/process.go", Old: ", Pdeathsig: syscall.SIGKILL}", New: "}"}),
		Found: []history.Kind{history.Overlap},
		Round: func(w *World) {
			w.Wait(2 * time.Second)
			n := w.follower()
			e := n.Kill()
			w.Did("kill -9, its handlers live on", e, "process gone")
			w.WaitLeft(moveLimit, Group, n)
			w.Wait(10 * time.Second)
		},
	},
}

// without makes a cluster of nodes whose source was edited.
func without(mechanism string, edits ...overlay.Edit) func(*World, *testcluster.Spec) {
	return func(w *World, s *testcluster.Spec) { s.Binary = testcluster.Edited(w.T, mechanism, edits) }
}
