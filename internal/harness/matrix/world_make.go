package matrix

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"leasehold/internal/harness/fault/cgroup"
	"leasehold/internal/harness/fault/disk"
	"leasehold/internal/harness/fault/network"
	"leasehold/internal/harness/testcluster"
)

// diskSize is far more than a row writes; what is not written takes no room.
const diskSize = 1 << 30

// makeHosts makes what the row needs besides nodes, and says where each is to run.
func (w *World) makeHosts(hosts []testcluster.Host) error {
	if err := w.makeGroups(len(hosts)); err != nil {
		return err
	}
	if err := w.makeNetwork(hosts); err != nil || !slices.Contains(w.Row.Needs, Disks) {
		return err
	}
	return w.makeDisks(hosts)
}

func (w *World) makeGroups(nodes int) error {
	if !slices.Contains(w.Row.Needs, Groups) {
		return nil
	}
	for i := range nodes {
		g, err := cgroup.New(w.T, fmt.Sprintf("n%d", i+1))
		if err != nil {
			return err
		}
		w.Groups = append(w.Groups, g)
		// Every controller that a row may ask for, while there is time to say no.
		if err := errors.Join(g.CPU(0), g.Memory(0)); err != nil {
			return err
		}
	}
	return nil
}

// limitMemory gives each node, with its handlers, the memory that the row says, before its first process is there.
func (w *World) limitMemory() {
	w.T.Helper()
	if w.Row.Memory == 0 {
		return
	}
	for i, n := range w.Nodes {
		w.must(w.Groups[i].Memory(w.Row.Memory))
		n.Within = w.Groups[i].Within()
	}
}

func (w *World) makeNetwork(hosts []testcluster.Host) (err error) {
	var host func(int) *network.Host
	switch {
	case slices.Contains(w.Row.Needs, Network):
		if w.Net, err = network.New(w.T, len(hosts)); err == nil {
			host = w.Net.Host
		}
	case slices.Contains(w.Row.Needs, Switched):
		if w.Switch, err = network.NewSwitched(w.T, len(hosts)); err == nil {
			host = w.Switch.Host
		}
	default:
		return nil
	}
	if err != nil {
		return err
	}
	for i := range hosts {
		hosts[i].Address, hosts[i].Namespace = host(i+1).Address, host(i+1).Namespace()
	}
	return nil
}

// makeDisks gives each node a disk of its own. Histories and logs are on none of them.
func (w *World) makeDisks(hosts []testcluster.Host) error {
	w.T.Helper()
	for i := range hosts {
		dir := shortDir(w.T)
		d, err := disk.New(w.T, dir, diskSize)
		if err != nil {
			return err
		}
		w.Disks = append(w.Disks, d)
		hosts[i].DataDir = filepath.Join(dir, "data")
	}
	return nil
}

// shortDir is a directory for the test whose name leaves room for that of a socket.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
