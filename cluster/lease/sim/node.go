package sim

import (
	"fmt"
	"time"

	"leasehold/cluster/lease"
	"leasehold/internal/ownership"
)

// node is one machine: a disk that survives crashes, and a process that runs on it at times.
type node struct {
	w    *world
	name string

	// The machine.
	drift  float64 // Its clock runs this much faster than the world's.
	offset time.Duration
	boot   uint64 // Boot counter on disk.
	dir    int    // Changes when the disk is wiped.
	kernel int    // Changes with a reboot of the machine.

	// The process. Its end raises life, so that its pending events are dropped.
	up        bool
	life      int
	server    string // The broker's id of this life.
	core      *lease.Core
	fence     lease.Time
	cuts      uint64 // How often the process lost every route,
	fenceCuts uint64 // and how many of these its fence accounts for.
	lanes     map[lease.Key]*lane
	frozen    bool
	cut       bool          // No network.
	sever     int           // Numbers the cut if it ended every route, on both sides at once; 0 if it did not.
	inside    time.Duration // World time until which the process may still take in what arrived before such a cut.
	mute      bool          // Its writes are lost, while a replica still serves its reads.
	deaf      bool          // Its writes land and their replies are lost; reads are slow.
	stuck     time.Duration // World time until which the core's loop hangs, while lanes and watchdog keep running.
	inbox     []lease.Input // Inputs that arrived while it hung, in order.
	deferred  []func()
}

// lane is the worker of one owned partition.
type lane struct {
	key       lease.Key
	boot      uint64
	epoch     uint64
	progress  ownership.Progress
	committed ownership.Progress
	call      *call
	stopping  bool // asked to drain
	killed    bool
	ended     bool
}

func (n *node) local() lease.Time {
	return n.offset + time.Duration(float64(n.w.now)*(1+n.drift))
}

// after schedules f for this life of the process; while the process is frozen it waits.
func (n *node) after(d time.Duration, f func()) {
	life := n.life
	var run func()
	run = func() {
		switch {
		case n.life != life:
		case n.frozen:
			n.deferred = append(n.deferred, run)
		default:
			f()
		}
	}
	n.w.at(d, run)
}

func (n *node) start() {
	w := n.w
	n.up, n.frozen, n.fence, n.cuts, n.fenceCuts = true, false, 0, 0, 0
	n.server = fmt.Sprint(n.name, "-", n.life)
	w.note("%s starts, clock %v", n.name, n.local())
	n.lanes = map[lease.Key]*lane{}
	n.core = lease.New(lease.Config{
		Self: lease.Session{
			Node: n.name, DirID: fmt.Sprint("dir-", n.dir), KernelBoot: fmt.Sprint(n.name, "-kernel-", n.kernel),
			LockIno: uint64(n.dir), ServerID: n.server, Provable: true, Weight: 1,
		},
		Boot: n.boot, Secret: fmt.Sprint(n.name, "-", n.life),
		Groups: []lease.Group{{Name: "g", Partitions: w.partitions, Handover: 2 * time.Second}},
		TTL:    ttl, Renew: renew, Margin: w.o.margin(), WriteLimit: writeLimit,
		StabilizationWindow: time.Second, MinHold: 10 * time.Second,
	})
	n.load()
	n.every(renew/10, func() { n.step(lease.Tick{}) })
	n.every(w.dur(300*time.Millisecond, 700*time.Millisecond), n.poll)
	n.every(100*time.Millisecond, n.report)
}

func (n *node) every(d time.Duration, f func()) {
	n.after(d, func() { f(); n.every(d, f) })
}

// load is the first complete read: it succeeds only with a network.
func (n *node) load() {
	n.after(n.w.dur(20*time.Millisecond, 200*time.Millisecond), func() {
		if n.cut {
			n.load()
			return
		}
		n.poll()
		n.after(250*time.Millisecond, func() { n.step(lease.Synced{}) })
	})
}

// poll reads every record, each with its own staleness.
func (n *node) poll() {
	if n.cut {
		return
	}
	for _, k := range n.w.allKeys() {
		n.read(k)
	}
}

func (n *node) read(k lease.Key) {
	obs, slowest := n.w.store.read(k, n.w.staleness()), 200*time.Millisecond
	if n.deaf {
		slowest = 3 * time.Second
	}
	n.after(n.w.dur(time.Millisecond, slowest), func() {
		if !n.cut {
			n.step(obs)
		}
	})
}

// report feeds the lanes' progress, as the driver does every commit interval.
func (n *node) report() {
	for _, k := range n.w.leaseKeys {
		if l := n.lanes[k]; l != nil && l.progress != l.committed {
			n.step(lease.Progressed{Key: k, Epoch: l.epoch, Progress: l.progress})
		}
	}
}

func (n *node) step(in lease.Input) {
	n.inbox = append(n.inbox, in)
	if n.w.now < n.stuck {
		n.after(n.stuck-n.w.now, n.drain)
		return
	}
	n.drain()
}

func (n *node) drain() {
	for n.up && n.w.now >= n.stuck && len(n.inbox) > 0 {
		in := n.inbox[0]
		n.inbox = n.inbox[1:]
		n.process(in)
	}
}

func (n *node) process(in lease.Input) {
	n.w.noteInput(n.name, in)
	for _, a := range n.core.Step(n.local(), in) {
		if !n.up {
			return
		}
		n.w.trace(n.name, a)
		n.act(a)
	}
}

func (n *node) act(a lease.Action) {
	switch a := a.(type) {
	case lease.Write:
		n.write(a)
	case lease.Read:
		if !n.cut {
			n.read(a.Key)
		}
	case lease.SaveBoot:
		n.after(n.w.dur(time.Millisecond, 50*time.Millisecond), func() {
			n.boot = a.Boot
			n.step(lease.SavedBoot(a))
		})
	case lease.Fence:
		n.setFence(a)
	case lease.Start:
		n.startLane(a)
	case lease.Drain:
		if l := n.lanes[a.Key]; l != nil {
			l.stopping = true
			n.stopIfIdle(l)
		}
	case lease.Cancel:
		n.w.cover("cancelled: " + a.Cause.Error())
		n.kill(n.lanes[a.Key])
	case lease.Committed:
		if l := n.lanes[a.Key]; l != nil && l.epoch == a.Epoch {
			l.committed = a.Progress
			n.next(l)
		}
	case lease.Exit:
		n.w.cover("exited")
		n.crash()
		n.w.restartLater(n)
	case lease.Finished:
		n.w.cover("clean stop")
		n.w.checkStopped(n)
		n.crash()
		n.w.restartLater(n)
	}
}

// setFence arms the watchdog, which cancels every lane without the core, up to 100 ms late.
func (n *node) setFence(f lease.Fence) {
	at := f.At
	n.fence, n.fenceCuts = at, f.Cut
	slop := n.w.dur(0, 100*time.Millisecond)
	n.after(at-n.local()+slop, func() {
		if n.fence != at || n.w.o.NoWatchdog {
			return
		}
		n.killAll()
	})
}

func (n *node) killAll() {
	for _, k := range n.w.leaseKeys {
		if l := n.lanes[k]; l != nil {
			n.kill(l)
		}
	}
}

// isolated tells the core, once its loop runs, and the watchdog that every route has ended.
func (n *node) isolated() {
	n.cuts++
	this, at := n.cuts, n.local()
	n.after(n.w.dur(0, 100*time.Millisecond), func() {
		if n.fenceCuts < this {
			n.killAll()
		}
	})
	n.step(lease.Isolated{N: this, At: at})
}

func (n *node) startLane(a lease.Start) {
	if old := n.lanes[a.Key]; old != nil {
		n.w.fail(fmt.Errorf("%s: %v started twice: epoch %d over %d", n.name, a.Key, a.Epoch, old.epoch))
		return
	}
	n.w.laneStarts++
	n.w.verifyStart(n, a)
	l := &lane{key: a.Key, boot: a.Boot, epoch: a.Epoch, progress: a.Progress, committed: a.Progress}
	n.lanes[a.Key] = l
	n.after(n.w.dur(0, 20*time.Millisecond), func() { n.next(l) })
}

// next starts a lane's next call, if none is in flight and the check of the fence allows it.
func (n *node) next(l *lane) {
	if l.ended || l.killed || l.call != nil || l.stopping || l.progress.Paused != "" {
		return
	}
	if l.progress.Attempt > 0 && l.progress != l.committed {
		return // a raised attempt is stored before the retry
	}
	if !n.w.o.NoFenceCheck && (n.local() >= n.fence || n.fenceCuts < n.cuts) {
		return // the watchdog is about to cancel it
	}
	l.progress.CheckDeadLetters = false // A lane checks for dead letters before its first call.
	l.call = &call{node: n, boot: l.boot, epoch: l.epoch, seq: l.progress.Checkpoint + 1}
	if err := n.w.truths[l.key].started(l.key, l.call); err != nil {
		n.w.fail(err)
		return
	}
	this := l.call
	n.after(n.w.callTime(), func() { n.callEnds(l, this) })
}

func (n *node) callEnds(l *lane, c *call) {
	if l.call != c || l.killed {
		return
	}
	l.call = nil
	ok := n.w.r.IntN(10) > 0
	n.w.truths[l.key].ended(c, ok)
	if ok {
		l.progress.Checkpoint, l.progress.Attempt = c.seq, 0
	} else {
		l.progress.Attempt++
		n.step(lease.Progressed{Key: l.key, Epoch: l.epoch, Progress: l.progress})
	}
	if l.ended {
		return
	}
	n.stopIfIdle(l)
	n.after(n.w.pauseTime(), func() { n.next(l) })
}

func (n *node) stopIfIdle(l *lane) {
	if l.stopping && l.call == nil && !l.killed && !l.ended {
		n.joined(l)
	}
}

// kill cancels a lane. Killing and joining its call takes up to nearly the longest time allowed.
func (n *node) kill(l *lane) {
	if l == nil || l.killed || l.ended {
		return
	}
	l.killed = true
	n.after(n.w.dur(0, margin*2/5), func() {
		if l.call != nil {
			n.w.truths[l.key].ended(l.call, false)
			l.call = nil
		}
		n.joined(l)
	})
}

func (n *node) joined(l *lane) {
	l.ended = true
	if n.lanes[l.key] == l {
		delete(n.lanes, l.key)
	}
	n.after(n.w.dur(0, 5*time.Millisecond), func() {
		n.step(lease.Stopped{Key: l.key, Epoch: l.epoch, Progress: l.progress})
	})
}

// crash ends the process: its calls end with it.
func (n *node) crash() {
	n.up, n.core, n.inbox, n.deferred, n.frozen = false, nil, nil, nil, false
	n.life++
	for _, k := range n.w.leaseKeys {
		if l := n.lanes[k]; l != nil && l.call != nil {
			n.w.truths[k].ended(l.call, false)
		}
	}
	n.lanes = map[lease.Key]*lane{}
}

func (n *node) freeze() {
	n.frozen, n.sever = true, 0 // stopped, it does not notice that it is isolated, so no proof may rest on that
	for _, k := range n.w.leaseKeys {
		if l := n.lanes[k]; l != nil && l.call != nil {
			l.call.frozen = true
		}
	}
}

// thaw runs everything that came due meanwhile, in random order.
func (n *node) thaw() {
	n.frozen = false
	n.w.note("%s thaws", n.name)
	due := n.deferred
	n.deferred = nil
	n.w.r.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	for _, f := range due {
		f()
	}
}
