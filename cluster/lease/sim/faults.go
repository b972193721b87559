package sim

import (
	"fmt"
	"slices"
	"time"

	"leasehold/cluster/lease"
)

// write carries one compare-and-set to the store and its reply back, with everything that can happen on the way.
func (n *node) write(wr lease.Write) {
	w := n.w
	reported := false
	report := func(ok bool, rev uint64) {
		if !reported {
			reported = true
			n.step(lease.WriteDone{ID: wr.ID, OK: ok, Revision: rev})
		}
	}
	n.after(writeLimit, func() { report(false, 0) })
	there, back := w.dur(time.Millisecond, 80*time.Millisecond), w.dur(time.Millisecond, 80*time.Millisecond)
	reply := func(rev uint64) {
		n.after(back, func() {
			if n.cut && w.now >= n.inside { // Nothing in transit at a cut gets through.
				w.cover("reply lost")
				return
			}
			report(rev > 0, rev)
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
		w.cover("reply lost")
		w.at(there, func() { w.apply(n, wr) })
	case !w.calm && fate == 2:
		w.cover("write landed late")
		w.at(w.dur(writeLimit, 12*time.Second), func() { w.apply(n, wr) })
	case !w.calm && fate == 3:
		w.cover("write twice")
		w.at(w.dur(there, 5*time.Second), func() { w.apply(n, wr) })
		fallthrough
	default:
		w.at(there, func() { reply(w.apply(n, wr)) })
	}
}

// oddsOf returns n if one in n writes meets each accident. Writes that change a lease's owner are few, and most rules
// are about them.
func oddsOf(wr lease.Write) int {
	if wr.Lease != nil && wr.Announce {
		return 12
	}
	return 40
}

// apply lands a write at the store, now or, without a quorum, perhaps once there is one again.
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
		w.cover("declared dead")
		if wr.Witnesses != nil {
			w.cover("declared dead on proof")
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
	if w.forging && old.Owner == "" && rec.Owner != "" && w.r.IntN(3) == 0 { // before its former owner can have seen it
		w.at(w.dur(0, 5*time.Millisecond), func() { w.forge(k) })
	}
	if w.rest && rec.Owner != old.Owner {
		w.fail(fmt.Errorf("%v: moved from %q to %q, without a reason", k, old.Owner, rec.Owner))
	}
}

// announce sends an announcement: fast, and often lost.
func (w *world) announce(from *node, k lease.Key) {
	for _, n := range w.nodes {
		if n != from && n.up && !n.cut && w.r.IntN(4) > 0 {
			obs := w.store.read(k, 0)
			n.after(w.dur(time.Millisecond, 20*time.Millisecond), func() { n.step(obs) })
		}
	}
}

// nextFault schedules a fault every second or two.
func (w *world) nextFault() {
	w.at(w.dur(200*time.Millisecond, 4*time.Second), func() {
		if w.calm {
			return
		}
		w.fault()
		w.nextFault()
	})
}

// faultKinds are the faults, each as frequent as it is listed.
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

// chooseFaults leaves half of the faults out of most runs, each time others ("swarm testing"): what takes two faults
// together is rare where all of them occur.
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
		w.cover("stop requested")
		n.after(0, func() { n.step(lease.Stop{}) })
	}
}

func (w *world) hangNode(n *node) {
	w.cover("loop stuck")
	w.note("%s hangs", n.name)
	n.stuck = max(n.stuck, w.now+w.dur(time.Second, 9*time.Second))
}

// loseEverything ends the quorum and every process, as a power cut does.
func (w *world) loseEverything() {
	if w.r.IntN(4) == 0 {
		w.loseQuorum()
		for _, n := range w.nodes {
			w.killNode(n)
		}
	}
}

// issueCommand has an operator issue a command for some partitions, or all.
func (w *world) issueCommand() {
	if !w.store.up {
		return
	}
	r := lease.Command{Kind: []string{lease.Pause, lease.Resume, lease.Resume, lease.Seek, lease.Seek,
		lease.Restart}[w.r.IntN(6)]}
	var covered []lease.Key
	for _, k := range w.leaseKeys {
		if p := w.r.IntN(2); p == 0 {
			covered, r.Partitions = append(covered, k), append(r.Partitions, k.Partition)
		}
	}
	if len(covered) == 0 {
		covered = w.leaseKeys
	}
	at := w.truths[covered[0]].finished
	switch r.Kind {
	case lease.Pause:
		r.Reason = fmt.Sprint("paused at ", w.now)
	case lease.Seek:
		r.Seq = uint64(w.r.Int64N(int64(at) + 6))
	}
	w.storeCommand(r, covered)
}

// storeCommand stores a command and announces it.
func (w *world) storeCommand(r lease.Command, covered []lease.Key) {
	k := lease.CommandsKey("g")
	var all lease.Commands
	if v, ok := w.store.written(k); ok {
		all = *v.commands
	}
	all.LastID++
	r.ID = all.LastID
	all.Open = slices.DeleteFunc(slices.Clone(all.Open), w.appliedEverywhere)
	all.Open = append(all.Open, r)
	w.cover("command: " + r.Kind)
	w.note("command: %+v", r)
	w.store.add(k, version{commands: &all})
	for _, k := range covered {
		w.truths[k].commands = append(w.truths[k].commands, r)
	}
	w.announce(nil, k)
}

// appliedEverywhere reports whether every lease has applied a command, so that it can be dropped.
func (w *world) appliedEverywhere(r lease.Command) bool {
	for _, k := range w.leaseKeys {
		if rec, _ := w.store.latest(k); r.Covers(k.Partition) && rec.Applied < r.ID {
			return false
		}
	}
	return true
}

// forge has something other than a node write a record: one that is not valid, or an old one.
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
			rec.Boot, rec.State, rec.Nonce, rec.TTL, rec.ServerID = 1+w.r.Uint64N(rec.Boot), lease.Live, "forged",
				time.Millisecond, "forged"
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
		w.cover("forged commands")
		for _, t := range w.truths {
			t.rebuilt, t.commands = true, nil
		}
	}
	w.note("forged: %v, %s", k, what)
	w.store.add(k, v)
}

// seekForgotten has an operator seek the partitions whose record is forged, so that no node needs to remember them.
func (w *world) seekForgotten() {
	for _, k := range w.leaseKeys {
		if w.store.isForged(k) {
			w.cover("forgotten lease")
			w.storeCommand(lease.Command{Kind: lease.Seek, Seq: w.truths[k].finished, Partitions: []int{k.Partition}},
				[]lease.Key{k})
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
	w.confirmDeath(n.name, n.server)
	w.restartLater(n)
}

// restartLater restarts a dead node: soon, late, after a reboot, or with an empty disk.
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

// deafen loses the replies to a node's writes while the writes land. The node learns of them by slow reads, and is
// often cut off or frozen right after, so that the reads show what it wrote long ago. Often another node dies
// meanwhile, so that there is something to claim.
func (w *world) deafen(n *node) {
	w.cover("replies cut off")
	w.note("%s gets no replies", n.name)
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

// heal ends every fault. One node may stay dead, as long as two are left.
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
