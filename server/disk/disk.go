// Package disk watches the file system of a data directory: how much is free, how long a sync takes, and when publishes
// have to be refused or the broker stopped. It keeps the ballast, a file that is given up when the disk is full.
package disk

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"leasehold/internal/bytesize"
	"leasehold/server/datadir"
)

// CheckEvery is how often the free space is looked at: one system call. What can arrive between two looks has to fit
// below the mark.
const CheckEvery = 250 * time.Millisecond

// ballastRetry is the pause after a ballast could not be made, or not be removed.
const ballastRetry = time.Minute

// State is what a Disk found last.
type State struct {
	Size, Free uint64        // Of the file system, in bytes, as far as this user may have them.
	MinFree    uint64        // The mark below which publishes are refused.
	Short      bool          // It was passed, and there is not yet room enough to go back.
	FsyncP99   time.Duration // Within which 99 of 100 small synced writes ended, of the last hour; 0 before the first.
	SlowFsync  bool          // So many took so long that timing "lan" does not suit.
}

// Config is what a Disk needs of the [server] table.
type Config struct {
	MinFree bytesize.Size // free space below which publishes are refused; 0: by the size of the disk
	Ballast bytesize.Size // size of the ballast file; 0: none
}

// Disk watches the file system of a data directory: how much is free, and how long it takes to sync. It keeps the
// ballast. It works beside the broker, and when that cannot.
type Disk struct {
	dir     string
	config  Config
	log     hclog.Logger
	ballast ballast
	fsync   fsyncTimes

	pause time.Time // before which the ballast is left alone; owned by Run

	mu     sync.Mutex
	size   uint64
	free   uint64
	limits watermarks
	space  space
}

// New looks at the file system of a data directory for the first time.
func New(dir string, c Config, log hclog.Logger) (*Disk, error) {
	d := &Disk{dir: dir, config: c, log: log.Named("disk"),
		ballast: ballast{path: filepath.Join(dir, datadir.BallastFile), size: uint64(c.Ballast)}}
	d.space.ballast = d.ballast.there()
	return d, d.measure()
}

// measure asks the file system. Its size may change too: it can be grown while it is in use.
func (d *Disk) measure() error {
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		return fmt.Errorf("look at the free space of %s: %w", d.dir, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.size, d.free = st.Blocks*uint64(st.Bsize), st.Bavail*uint64(st.Bsize)
	d.limits = newWatermarks(d.config, d.size)
	return nil
}

// Run watches until ctx ends.
func (d *Disk) Run(ctx context.Context) error {
	var probing sync.WaitGroup
	defer probing.Wait()
	probing.Go(func() { d.probe(ctx) })
	tick := time.NewTicker(CheckEvery)
	defer tick.Stop()
	for {
		d.check(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// check measures, and does what follows from it.
func (d *Disk) check(now time.Time) {
	if err := d.measure(); err != nil {
		d.log.Debug("cannot read free disk space", "error", err)
		return
	}
	d.mu.Lock()
	was, free := d.space, d.free
	short, step := d.limits.next(was, free)
	d.space.short = short
	d.mu.Unlock()
	if short != was.short {
		d.logShort(short)
	}
	if step != ballastKeep && now.After(d.pause) {
		d.apply(step, now)
	}
}

func (d *Disk) logShort(short bool) {
	s := d.State()
	if short {
		d.log.Error("short of disk space: refusing publishes", "directory", d.dir,
			"free", bytesize.Size(s.Free).Short(), "min_free", bytesize.Size(s.MinFree).Short())
		return
	}
	d.log.Info("disk space is sufficient again", "directory", d.dir, "free", bytesize.Size(s.Free).Short())
}

// apply makes the ballast or gives it up.
func (d *Disk) apply(step ballastStep, now time.Time) {
	var err error
	switch step {
	case ballastDrop:
		if err = d.ballast.drop(); err == nil {
			d.log.Warn("ballast file removed to free disk space", "file", d.ballast.path, "size", bytesize.Size(d.ballast.size))
		}
	case ballastMake:
		if err = d.ballast.create(); err == nil {
			d.log.Debug("ballast file created", "file", d.ballast.path, "size", bytesize.Size(d.ballast.size))
		}
	}
	if err != nil {
		d.log.Warn("ballast file operation failed", "error", err)
		d.pause = now.Add(ballastRetry)
		return
	}
	d.mu.Lock()
	d.space.ballast = step == ballastMake
	d.mu.Unlock()
}

// State is what was found last.
func (d *Disk) State() State {
	times := d.fsync.sorted()
	d.mu.Lock()
	defer d.mu.Unlock()
	return State{
		Size: d.size, Free: d.free, MinFree: d.limits.low, Short: d.space.short,
		FsyncP99: percentile99(times), SlowFsync: tooSlow(times),
	}
}

// StartBlockers says what is missing for the broker to work, nothing if it can.
func (d *Disk) StartBlockers() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.limits.startable(d.free) {
		return nil
	}
	return []string{fmt.Sprintf("free disk space: %s has %s, the broker needs %s", d.dir,
		bytesize.Size(d.free).Short(), bytesize.Size(d.limits.least).Short())}
}

// Exhausted reports that so little is free that the broker has to be stopped before it runs into that.
func (d *Disk) Exhausted() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.limits.exhausted(d.space, d.free)
}
