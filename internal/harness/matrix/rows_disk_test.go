package matrix

import (
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"leasehold/internal/harness/fault/disk"
	"leasehold/internal/harness/history"
	"leasehold/internal/harness/testcluster"
)

// diskRows make whole disks fail.
var diskRows = []Row{
	{
		Name: "disk-full", Expect: "publishes are refused, and taken again by themselves once there is room", CI: true,
		Load:  Steady,
		Needs: []Need{Disks}, Stall: 30 * time.Second,
		Round: func(w *World) { w.fill(diskFull, w.Pick()) },
	},
	{
		Name: "disk-full-all", Expect: "no acknowledged message is lost; processing resumes once there is free space",
		Load:  Steady,
		Needs: []Need{Disks}, Stall: 60 * time.Second,
		Round: func(w *World) { w.fill(diskFullAll, w.Nodes...) },
	},
	{
		Name: "disk-dead", Expect: "the others take its partitions, nothing is lost", CI: true, Load: Steady,
		Needs: []Need{Disks}, Stall: 30 * time.Second, Gap: 30 * time.Second,
		Round: func(w *World) {
			w.breakDisk(diskDead, unix.EIO, func(n *testcluster.Node) error { return w.DiskOf(n).Die() })
		},
	},
	{
		Name: "disk-read-only", Expect: "the others take its partitions, nothing is lost", Load: Steady,
		Needs: []Need{Disks}, Stall: 30 * time.Second, Gap: 30 * time.Second,
		Round: func(w *World) {
			w.breakDisk(diskReadOnly, unix.EROFS, func(n *testcluster.Node) error { return w.DiskOf(n).ReadOnly() })
		},
	},
	{
		Name: "disk-wiped", Expect: "it waits for its former identity to be removed, and gets everything from the others",
		CI:   true,
		Load: Steady, Needs: []Need{Disks}, Stall: 15 * time.Second, Gap: 15 * time.Second,
		Round: func(w *World) {
			n := w.Pick()
			e := n.Kill()
			w.must(w.DiskOf(n).Wipe())
			w.Did(diskWiped, e, "nothing is on it")
			n.Start()
			w.replaced(n)
		},
	},
	{
		Name: "disk-stale", Expect: "nothing is lost as long as the two others are whole", Load: Steady,
		Needs: []Need{Disks}, Stall: 15 * time.Second, Gap: 15 * time.Second,
		Round: (*World).goBackInTime,
	},
	{
		Name: "disk-throttled", Expect: "slower, nothing is lost", Load: Steady, Needs: []Need{Disks},
		Stall: 30 * time.Second, Gap: 30 * time.Second,
		Round: (*World).throttle,
	},
}

// fill keeps the nodes' disks full until each node says that it is not ready, and a while longer, then makes room. A
// node gives up its ballast, so that one filling is not enough.
func (w *World) fill(kind Kind, nodes ...*testcluster.Node) {
	w.T.Helper()
	events, says := make([]history.Event, len(nodes)), make([]error, len(nodes))
	for i, n := range nodes {
		events[i] = n.Struck()
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	start, until := time.Now(), time.Time{}
	for until.IsZero() || time.Now().Before(until) {
		<-tick.C
		for i, n := range nodes {
			w.must(w.DiskOf(n).Fill())
			n.StartIfGone(0)
			if err := n.Ready(); err != nil {
				says[i] = err
			}
		}
		if until.IsZero() && !slices.Contains(says, nil) {
			until = time.Now().Add(10 * time.Second)
		}
		if until.IsZero() && time.Since(start) > moveLimit {
			w.T.Fatalf("disks are full, and what their nodes said is %v", says)
		}
	}
	for i, n := range nodes {
		room, err := w.DiskOf(n).Room()
		w.must(err)
		w.Did(kind, events[i], "room for %d bytes; %v", room, says[i])
		w.must(w.DiskOf(n).Free())
	}
	w.revive()
	w.Flows(100)
}

// breakDisk breaks a disk under a node, waits until the others have its partitions, and brings both back.
func (w *World) breakDisk(kind Kind, want error, broken func(n *testcluster.Node) error) {
	w.T.Helper()
	n := w.Pick()
	e := n.Struck()
	w.must(broken(n))
	_, err := os.Create(w.unsynced(n))
	if !errors.Is(err, want) {
		w.T.Fatalf("a file can be made on a broken disk: %v", err)
	}
	w.Did(kind, e, "%v", err)
	w.WaitLeft(moveLimit, Group, n)
	w.end(n)
	w.must(w.DiskOf(n).PowerOn())
	w.startAgain(n)
}

// replaced removes the former identity of a node that was started with an empty disk.
func (w *World) replaced(n *testcluster.Node) {
	w.T.Helper()
	w.remove(n)
	w.Settle()
}

// goBackInTime gives a node the disk that it had some hundred messages ago.
func (w *World) goBackInTime() {
	w.T.Helper()
	n := w.Pick()
	n.Term()
	old, err := w.DiskOf(n).Snapshot()
	w.must(err)
	w.startAgain(n)
	w.Flows(500)
	e := n.Kill()
	w.must(w.DiskOf(n).Restore(old))
	w.Did(diskStale, e, "500 messages older")
	w.startAgain(n)
	w.Flows(100)
}

// throttle lets a node's disk make 20 writes a second for a while.
func (w *World) throttle() {
	w.T.Helper()
	n := w.Pick()
	d := w.DiskOf(n)
	if err := d.Throttle(disk.Limit{Operations: 20}); errors.Is(err, disk.ErrUnavailable) {
		w.T.Skip("not run: ", err)
	} else {
		w.must(err)
	}
	e := n.Struck()
	w.Wait(30 * time.Second)
	started := time.Now()
	w.must(d.Sync())
	w.Did(diskThrottled, e, "a sync took %s", time.Since(started).Round(time.Millisecond))
	w.must(d.Throttle(disk.Limit{}))
	w.revive()
}
