package disk

import (
	"context"
	"leasehold/server/datadir"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// How the disk's speed is measured: a burst at start, then seldom enough not to count among an idle node's writes.
const (
	fsyncBurst = 20
	fsyncEvery = 10 * time.Second
	fsyncKept  = fsyncBurst + 360 // about an hour
	fsyncBlock = 4096             // bytes, a small Raft entry's worth
	// slowFsync is what timing "lan" bears: a node whose disk stalls for longer misses heartbeats and elections begin.
	slowFsync = 250 * time.Millisecond
)

// fsyncTimes are the latest measurements.
type fsyncTimes struct {
	mu     sync.Mutex
	kept   []time.Duration // at most fsyncKept
	oldest int             // where the next one goes, once there are so many
}

func (f *fsyncTimes) add(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.kept) < fsyncKept {
		f.kept = append(f.kept, d)
		return
	}
	f.kept[f.oldest] = d
	f.oldest = (f.oldest + 1) % fsyncKept
}

// sorted returns the measurements in order of length.
func (f *fsyncTimes) sorted() []time.Duration {
	f.mu.Lock()
	kept := slices.Clone(f.kept)
	f.mu.Unlock()
	slices.Sort(kept)
	return kept
}

// percentile99 is the time within which 99 of 100 stayed; 0 without any. Of fewer than 100 it is the longest.
func percentile99(sorted []time.Duration) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)*99+99)/100-1]
}

// tooSlow judges whether more than one in 1,000 took longer than slowFsync. There are never 1,000 at hand, and a single
// long one happens on a good disk too; on a disk that just keeps the limit, two show up in one hour of twenty.
func tooSlow(sorted []time.Duration) bool {
	over := 0
	for _, d := range sorted {
		if d > slowFsync {
			over++
		}
	}
	return over > max(1, len(sorted)/1000)
}

// probe measures until ctx ends.
func (d *Disk) probe(ctx context.Context) {
	tick := time.NewTicker(fsyncEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		took, err := timeFsync(filepath.Join(d.dir, datadir.ProbeFile))
		if err != nil {
			d.log.Debug("cannot measure the disk's sync time", "error", err)
		} else {
			d.fsync.add(took)
		}
		if n < fsyncBurst && err == nil && ctx.Err() == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// timeFsync writes one block over the former one, so that the file takes no more room, and times how long it takes to
// be on the disk.
func timeFsync(path string) (time.Duration, error) {
	f, err := datadir.OpenFile(path, os.O_WRONLY|os.O_CREATE)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block := make([]byte, fsyncBlock)
	copy(block, time.Now().String())
	begun := time.Now()
	if _, err := f.WriteAt(block, 0); err != nil {
		return 0, err
	}
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return 0, err
	}
	return time.Since(begun), nil
}
