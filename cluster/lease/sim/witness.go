package sim

import (
	"time"

	"leasehold/cluster/lease"
)

// proofAge is how long a process's routes have ended before that counts as a proof: the time that an isolated process
// needs to notice and to stop its lanes.
const proofAge = margin/2 + margin/10

// confirmDeath has some of the others find out that a process is gone: soon, late, or long after its successor started.
// Their proof is about the process that died, whatever record they read last.
func (w *world) confirmDeath(name, server string) {
	if !w.witnesses || w.r.IntN(4) == 0 {
		return
	}
	w.cover("death confirmed")
	for _, o := range w.nodes {
		switch w.r.IntN(4) {
		case 0:
		case 1:
			w.at(w.dur(proofAge, 20*time.Second), func() { w.prove(o, name, server, 1) })
		default:
			w.at(w.dur(proofAge, 2*proofAge), func() { w.prove(o, name, server, 5) })
		}
	}
}

// prove delivers a proof, times times: once the record has changed, another proof is needed.
func (w *world) prove(to *node, name, server string, times int) {
	if to.up && to.name != name {
		proof := lease.Witnessed{Node: name, ServerID: server, Revision: w.store.read(lease.SessionKey(name), 0).Revision,
			By: []string{"another"}}
		w.note("%s gets the proof that %s is gone, at %d", to.name, server, proof.Revision)
		to.after(w.dur(0, 50*time.Millisecond), func() { to.step(proof) })
	}
	if times > 1 {
		w.at(w.dur(200*time.Millisecond, 600*time.Millisecond), func() { w.prove(to, name, server, times-1) })
	}
}

// severNode ends every route of a live node, on both sides, and has its port refuse connections. Meanwhile the others
// take it for dead. The node notices within 40 ms.
func (w *world) severNode(n *node) {
	if !w.witnesses || !n.up || n.frozen || n.cut {
		return
	}
	w.cover("severed")
	w.order++
	this, server := w.order, n.server
	w.note("%s is severed", n.name)
	n.cut, n.sever, n.inside = true, this, w.now+40*time.Millisecond
	n.after(w.dur(0, 40*time.Millisecond), n.isolated)
	w.at(w.dur(300*time.Millisecond, 6*time.Second), func() {
		if n.sever == this {
			n.joinNetwork()
		}
	})
	for _, o := range w.nodes {
		w.at(w.dur(proofAge, 3*proofAge), func() {
			if n.sever == this && w.r.IntN(3) > 0 {
				w.cover("wrongly confirmed")
				w.prove(o, n.name, server, 1)
			}
		})
	}
}
