package sim

import (
	"fmt"
	"slices"
	"time"

	"leasehold/cluster/lease"
)

// write carries one compare-and-set to the store and its answer back, with everything that can happen on the way.
func (n *node) write(wr lease.Write) {
	w := n.w
	told := false
	tell := func(ok bool, rev uint64) {
		if !told {
			told = true
			n.step(lease.WriteDone{ID: wr.ID, OK: ok, Revision: rev})
		}
	}
	n.after(writeLimit, func() { tell(false, 0) })
	there, back := w.dur(time.Millisecond, 80*time.Millisecond), w.dur(time.Millisecond, 80*time.Millisecond)
	answer := func(rev uint64) {
		n.after(back, func() {
			if n.cut && w.now >= n.inside { // Nothing that is under way at a cut gets through.
				w.cover("answer lost")
				return
			}
			tell(rev > 0, rev)
		})
	}
	fate := w.r.IntN(oddsOf(wr))
	if n.deaf && !w.calm {
		fate = 1
	}
	switch {
	case n.cut, n.mute, !w.calm && fate == 0:
		w.cover("write lost")
	case !w.calm && fate == 1:
		w.cover("answer lost")
		w.at(there, func() { w.apply(n, wr) })
	case !w.calm && fate == 2:
		w.cover("write landed late")
		w.at(w.dur(writeLimit, 12*time.Second), func() { w.apply(n, wr) })
	case !w.calm && fate == 3:
		w.cover("write twice")
		w.at(w.dur(there, 5*time.Second), func() { w.apply(n, wr) })
		fallthrough
	default:
		w.at(there, func() { answer(w.apply(n, wr)) })
	}
}

// oddsOf is one in how many writes meets each accident. Those by which a lease changes hands are few, and it is around them
// that rules are broken.
func oddsOf(wr lease.Write) int {
	if wr.Lease != nil && wr.Announce {
		return 12
	}
	return 40
}

// apply lands a write at the store, now or, if there is no quorum, perhaps once there is one again.
func (w *world) apply(n *node, wr lease.Write) uint64 {
	if !w.store.up {
		if w.r.IntN(2) == 0 {
			w.at(time.Second, func() { w.apply(n, wr) })
		}
		return 0
	}
	var old lease.Lease
	if wr.Lease != nil {
		old, _ = w.store.latest(wr.Key)
	}
	rev := w.store.put(wr, w.o)
	w.note("%s write %d %v lands as %d", n.name, wr.ID, wr.Key, rev)
	if rev == 0 {
		w.cover("write refused")
		return 0
	}
	if wr.Lease != nil {
		w.leaseLanded(wr.Key, old, *wr.Lease)
	} else if wr.Session.State == lease.Dead {
		w.cover("burial")
		if wr.Witnesses != nil {
			w.cover("burial by witness")
		}
	}
	if wr.Announce {
		w.announce(n, wr.Key)
	}
	return rev
}

func (w *world) leaseLanded(k lease.Key, old, rec lease.Lease) {
	switch {
	case rec.Owner == "":
		w.cover("hand-over")
	case rec.Epoch > old.Epoch && old.Owner == rec.Owner:
		w.cover("claimed again")
	case rec.Epoch > old.Epoch && old.Owner != "":
		w.cover("takeover")
	}
	if err := w.truths[k].landed(k, old, rec); err != nil {
		w.fail(err)
	}
	if w.forging && old.Owner == "" && rec.Owner != "" && w.r.IntN(3) == 0 { // before its former owner may have heard of it
		w.at(w.dur(0, 5*time.Millisecond), func() { w.forge(k) })
	}
	if w.rest && rec.Owner != old.Owner {
		w.fail(fmt.Errorf("%v: moved from %q to %q, though it had no reason to", k, old.Owner, rec.Owner))
	}
}

// announce is the wake-up: fast, and often lost.
func (w *world) announce(from *node, k lease.Key) {
	for _, n := range w.nodes {
		if n != from && n.up && !n.cut && w.r.IntN(4) > 0 {
			obs := w.store.read(k, 0)
			n.after(w.dur(time.Millisecond, 20*time.Millisecond), func() { n.step(obs) })
		}
	}
}

// nextFault lets something break every second or two.
func (w *world) nextFault() {
	w.at(w.dur(200*time.Millisecond, 4*time.Second), func() {
		if w.calm {
			return
		}
		w.fault()
		w.nextFault()
	})
}

// faultKinds are what may befall a node, as often as each is listed.
var faultKinds = []func(w *world, n *node){
	(*world).killNode, (*world).killNode,
	(*world).stopNode,
	(*world).freezeNode, (*world).freezeNode,
	(*world).cutNode, (*world).cutNode,
	(*world).severNode,
	func(w *world, _ *node) { w.loseQuorum() },
	(*world).hangNode,
	(*world).muteNode, (*world).muteNode,
	(*world).deafen, (*world).deafen,
	func(w *world, _ *node) { w.loseEverything() },
	func(w *world, _ *node) { w.issueCommand() }, func(w *world, _ *node) { w.issueCommand() },
}

// chooseFaults leaves half of the faults out of most runs, other ones in each: what only two of them together bring about
// would be rare where all of them happen ("swarm testing").
func (w *world) chooseFaults() {
	w.witnesses = w.r.IntN(2) == 0
	for _, f := range faultKinds {
		if w.r.IntN(2) == 0 {
			w.faults = append(w.faults, f)
		}
	}
	if len(w.faults) == 0 || w.r.IntN(4) == 0 {
		w.faults = faultKinds
	}
	if w.forging {
		forge := func(w *world, _ *node) { w.forge(w.allKeys()[w.r.IntN(len(w.allKeys()))]) }
		w.faults = append(slices.Clone(w.faults), forge, forge)
	}
}

func (w *world) fault() {
	n := w.nodes[w.r.IntN(len(w.nodes))]
	w.faults[w.r.IntN(len(w.faults))](w, n)
}

func (w *world) stopNode(n *node) {
	if n.up {
		w.cover("asked to stop")
		n.after(0, func() { n.step(lease.Stop{}) })
	}
}

func (w *world) hangNode(n *node) {
	w.cover("loop stuck")
	w.note("%s hangs", n.name)
	n.stuck = max(n.stuck, w.now+w.dur(time.Second, 9*time.Second))
}

// loseEverything takes the quorum and every process away, as a power cut does.
func (w *world) loseEverything() {
	if w.r.IntN(4) == 0 {
		w.loseQuorum()
		for _, n := range w.nodes {
			w.killNode(n)
		}
	}
}

// ask has a person ask something of a partition, or of all.
func (w *world) issueCommand() {
	if !w.store.up {
		return
	}
	r := lease.Command{Kind: []string{lease.Pause, lease.Resume, lease.Resume, lease.Seek, lease.Seek, lease.Restart}[w.r.IntN(6)]}
	var about []lease.Key
	for _, k := range w.leaseKeys {
		if p := w.r.IntN(2); p == 0 {
			about, r.Partitions = append(about, k), append(r.Partitions, k.Partition)
		}
	}
	if len(about) == 0 {
		about = w.leaseKeys
	}
	at := w.truths[about[0]].finished
	switch r.Kind {
	case lease.Pause:
		r.Reason = fmt.Sprint("asked at ", w.now)
	case lease.Seek:
		r.Seq = uint64(w.r.Int64N(int64(at) + 6))
	}
	w.storeCommand(r, about)
}

// record stores a request and has it announced.
func (w *world) storeCommand(r lease.Command, about []lease.Key) {
	k := lease.CommandsKey("g")
	var all lease.Commands
	if v, ok := w.store.written(k); ok {
		all = *v.commands
	}
	all.LastID++
	r.ID = all.LastID
	all.Open = slices.DeleteFunc(slices.Clone(all.Open), w.appliedEverywhere)
	all.Open = append(all.Open, r)
	w.cover("asked: " + r.Kind)
	w.note("asked: %+v", r)
	w.store.add(k, version{commands: &all})
	for _, k := range about {
		w.truths[k].commands = append(w.truths[k].commands, r)
	}
	w.announce(nil, k)
}

// appliedEverywhere: no lease has to apply a request any more, so it may be forgotten.
func (w *world) appliedEverywhere(r lease.Command) bool {
	for _, k := range w.leaseKeys {
		if rec, _ := w.store.latest(k); r.Covers(k.Partition) && rec.Applied < r.ID {
			return false
		}
	}
	return true
}

// forge has something other than a node write to a record: what is not valid, or what was true long ago.
func (w *world) forge(k lease.Key) {
	old, ok := w.store.written(k)
	if !ok || !w.store.up || w.calm {
		return
	}
	v := version{forged: true}
	what := "invalid"
	if w.r.IntN(3) == 0 {
		what = "old"
		switch {
		case old.session != nil:
			rec := *old.session
			rec.Boot, rec.State, rec.Nonce, rec.TTL, rec.ServerID = 1+w.r.Uint64N(rec.Boot), lease.Live, "forged", time.Millisecond, "forged"
			v.session = &rec
		case old.lease != nil:
			rec := *old.lease
			rec.Checkpoint -= w.r.Uint64N(rec.Checkpoint + 1)
			v.lease = &rec
		}
	}
	switch {
	case k.Node != "":
		w.cover("forged session: " + what)
	case old.lease != nil:
		w.cover("forged lease: " + what)
		w.truths[k].rebuilt, w.truths[k].blank = true, v.lease == nil
	default:
		w.cover("forged requests")
		for _, t := range w.truths {
			t.rebuilt, t.commands = true, nil
		}
	}
	w.note("forged: %v, %s", k, what)
	w.store.add(k, v)
}

// seekForgotten has an operator say where partitions begin whose record is forged, and that no node remembers.
func (w *world) seekForgotten() {
	for _, k := range w.leaseKeys {
		if w.store.isForged(k) {
			w.cover("forgotten lease")
			w.storeCommand(lease.Command{Kind: lease.Seek, Seq: w.truths[k].finished, Partitions: []int{k.Partition}}, []lease.Key{k})
		}
	}
}

func (w *world) killNode(n *node) {
	if !n.up {
		return
	}
	w.cover("crash")
	w.note("%s crashes", n.name)
	n.crash()
	w.witnessDeath(n.name, n.server)
	w.restartLater(n)
}

// restartLater brings a dead node back: soon, late, after a reboot, or with an empty disk.
func (w *world) restartLater(n *node) {
	switch w.r.IntN(6) {
	case 0:
		w.cover("disk wiped")
		n.boot, n.dir = 0, n.dir+100
	case 1:
		w.cover("machine rebooted")
		n.kernel++
		n.offset = w.dur(0, time.Hour)
	}
	life := n.life
	w.at(w.dur(100*time.Millisecond, 15*time.Second), func() {
		if n.life == life && !n.up {
			n.start()
		}
	})
}

func (w *world) freezeNode(n *node) {
	if !n.up || n.frozen {
		return
	}
	w.cover("frozen")
	w.note("%s freezes", n.name)
	n.freeze()
	life := n.life
	w.at(w.dur(500*time.Millisecond, 12*time.Second), func() {
		if n.life == life && n.frozen {
			n.thaw()
		}
	})
}

func (w *world) cutNode(n *node) {
	w.cover("cut off")
	w.note("%s is cut off", n.name)
	n.cut = true
	w.at(w.dur(500*time.Millisecond, 15*time.Second), n.joinNetwork)
}

func (n *node) joinNetwork() { n.cut, n.sever = false, 0 }

func (w *world) muteNode(n *node) {
	w.cover("writes cut off")
	w.note("%s cannot write", n.name)
	n.mute = true
	w.at(w.dur(500*time.Millisecond, 12*time.Second), func() { n.mute = false })
}

// deafen lets a node's writes land while it hears of none, and learns of them by reads that take their time; often it is
// cut off or frozen right after. What it reads then tells it of what it wrote long ago. Often another node dies meanwhile,
// so that there is something to claim.
func (w *world) deafen(n *node) {
	w.cover("answers cut off")
	w.note("%s hears no answers", n.name)
	n.deaf = true
	if o := w.nodes[w.r.IntN(len(w.nodes))]; o != n {
		w.killNode(o)
	}
	w.at(w.dur(time.Second, 9*time.Second), func() {
		n.deaf = false
		switch after := w.r.IntN(3); {
		case w.calm:
		case after == 0:
			w.cutNode(n)
		case after == 1:
			w.freezeNode(n)
		}
	})
}

func (w *world) loseQuorum() {
	w.cover("quorum lost")
	w.note("quorum lost")
	w.store.up = false
	w.at(w.dur(500*time.Millisecond, 16*time.Second), func() { w.store.up = true })
}

// heal ends every fault. One node may stay dead for good, as long as two are left.
func (w *world) heal() {
	w.calm, w.store.up = true, true
	dead := -1
	if len(w.nodes) > 2 && w.r.IntN(3) == 0 {
		dead = w.r.IntN(len(w.nodes))
	}
	for i, n := range w.nodes {
		n.joinNetwork()
		n.mute, n.deaf = false, false
		if n.frozen {
			n.thaw()
		}
		switch {
		case i == dead && n.up:
			n.crash()
		case i == dead:
			n.life++
		case !n.up:
			n.start()
		}
	}
}
