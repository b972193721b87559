package sim

import (
	"fmt"
	"slices"

	"leasehold/cluster/lease"
)

// version is one stored revision of a record.
type version struct {
	rev      uint64
	session  *lease.Session
	lease    *lease.Lease
	commands *lease.Commands
	forged   bool // Not written by a node. If it has no record, it is an invalid one.
}

// store is the model of the KV bucket: a log of revisions per key, compare-and-set on the newest, and reads that may
// return any of the last few.
type store struct {
	rev  uint64
	keys map[lease.Key][]version
	up   bool // There is a quorum: writes are applied.
}

func newStore() *store { return &store{keys: map[lease.Key][]version{}, up: true} }

// put applies a compare-and-set and returns the new revision, 0 if it was refused.
func (s *store) put(w lease.Write, o Options) uint64 {
	var last uint64
	if vs := s.keys[w.Key]; len(vs) > 0 {
		last = vs[len(vs)-1].rev
	}
	blind := o.BlindMarkDead && w.Session != nil && w.Session.State == lease.Dead || o.BlindWrite && w.Lease != nil &&
		!w.Announce
	if last != w.Revision && !blind {
		return 0
	}
	s.add(w.Key, version{session: w.Session, lease: w.Lease})
	return s.rev
}

func (s *store) add(k lease.Key, v version) {
	s.rev++
	v.rev = s.rev
	s.keys[k] = append(s.keys[k], v)
}

// latest returns the newest lease of a partition that a node wrote, and whether there is one.
func (s *store) latest(k lease.Key) (lease.Lease, bool) {
	if v, ok := s.written(k); ok {
		return *v.lease, true
	}
	return lease.Lease{}, false
}

// written returns the newest revision of a key that was not forged.
func (s *store) written(k lease.Key) (version, bool) {
	for _, v := range slices.Backward(s.keys[k]) {
		if !v.forged {
			return v, true
		}
	}
	return version{}, false
}

// isForged reports whether the newest revision of a key was.
func (s *store) isForged(k lease.Key) bool {
	vs := s.keys[k]
	return len(vs) > 0 && vs[len(vs)-1].forged
}

// read returns what a reader may see, back revisions behind the newest.
func (s *store) read(k lease.Key, back int) lease.Observed {
	i := len(s.keys[k]) - 1 - back
	if i < 0 {
		return lease.Observed{Key: k}
	}
	v := s.keys[k][i]
	obs := lease.Observed{Key: k, Revision: v.rev, Session: v.session, Lease: v.lease, Commands: v.commands}
	if v.session == nil && v.lease == nil && v.commands == nil {
		obs.Invalid = "forged"
	}
	return obs
}

// call is one call of a handler.
type call struct {
	node   *node
	boot   uint64
	epoch  uint64
	seq    uint64
	frozen bool // Its node was stopped while it ran, or between its check of the fence and its end.
}

// truth is what really happened to a partition. No node sees it.
type truth struct {
	epoch    uint64 // Highest epoch under which a call started.
	by       string // Node and boot that it started under.
	finished uint64 // Every message up to this one was finished by some call, or skipped by a seek.
	open     []*call
	calls    int

	commands []lease.Command // Commands that are not applied yet.
	applied  uint64          // Epoch of the latest lease that a command was applied to.
	paused   bool            // What the newest lease says.
	rebuilt  bool            // Its record or the commands were forged: nodes continue from what they remember.
	blank    bool            // Its newest revision has no valid record.
}

// started checks a call at its start, the check of the fence.
func (t *truth) started(k lease.Key, c *call) error {
	by := fmt.Sprintf("%s/%d", c.node.name, c.boot)
	switch {
	case c.epoch < t.epoch:
		return fmt.Errorf("%v: %s started a call under epoch %d after one had started under %d by %s", k, by, c.epoch,
			t.epoch, t.by)
	case c.epoch == t.epoch && by != t.by:
		return fmt.Errorf("%v: %s and %s both started calls under epoch %d", k, by, t.by, c.epoch)
	case c.epoch < t.applied:
		return fmt.Errorf("%v: %s started a call under epoch %d, though a command was applied with %d", k, by, c.epoch,
			t.applied)
	case t.paused:
		return fmt.Errorf("%v: %s started message %d of a paused partition", k, by, c.seq)
	case c.seq > t.finished+1:
		return fmt.Errorf("%v: %s started message %d, but only those to %d are finished", k, by, c.seq, t.finished)
	}
	for _, o := range t.open {
		if !o.frozen {
			return fmt.Errorf("%v: %s started message %d while %s/%d still had %d in flight", k, by, c.seq, o.node.name, o.boot,
				o.seq)
		}
	}
	t.epoch, t.by, t.calls = c.epoch, by, t.calls+1
	t.open = append(t.open, c)
	return nil
}

// ended takes in the end of a call.
func (t *truth) ended(c *call, ok bool) {
	for i, o := range t.open {
		if o == c {
			t.open = append(t.open[:i:i], t.open[i+1:]...)
		}
	}
	if ok && c.seq == t.finished+1 && c.epoch >= t.applied {
		t.finished = c.seq
	}
}

// landed checks a lease write against what it replaced.
func (t *truth) landed(k lease.Key, old, rec lease.Lease) error {
	blank := t.blank
	t.blank = false
	switch {
	case blank && !rec.CheckDeadLetters:
		return fmt.Errorf("%v: epoch %d rests on memory and no lane will check for dead letters", k, rec.Epoch)
	case old.CheckDeadLetters && !rec.CheckDeadLetters && otherOwner(old, rec):
		return fmt.Errorf("%v: no lane checked for dead letters under epoch %d", k, old.Epoch)
	case rec.Epoch < old.Epoch:
		return fmt.Errorf("%v: epoch went from %d to %d", k, old.Epoch, rec.Epoch)
	case rec.Owner != "" && (rec.Owner != old.Owner || rec.Boot != old.Boot) && rec.Epoch == old.Epoch:
		return fmt.Errorf("%v: %s/%d took over from %s/%d without raising the epoch", k, rec.Owner, rec.Boot, old.Owner,
			old.Boot)
	case t.rebuilt:
		t.remembered(old, rec)
	case rec.Applied != old.Applied:
		return t.commandsLanded(k, old, rec)
	case rec.Checkpoint < old.Checkpoint:
		return fmt.Errorf("%v: checkpoint went from %d to %d", k, old.Checkpoint, rec.Checkpoint)
	case rec.Paused != old.Paused:
		return fmt.Errorf("%v: paused went from %q to %q without a command", k, old.Paused, rec.Paused)
	case rec.Checkpoint > t.finished:
		return fmt.Errorf("%v: checkpoint is %d, but only messages to %d are finished", k, rec.Checkpoint, t.finished)
	}
	return nil
}

// remembered takes in a lease that may rest on what a node remembers of a forged one. That may be out of date, so
// messages may be handled again and commands applied again.
func (t *truth) remembered(old, rec lease.Lease) {
	if rec.Applied != old.Applied {
		t.applied, t.finished = rec.Epoch, max(t.finished, rec.Checkpoint)
	}
	t.paused = rec.Paused != ""
	t.commands = slices.DeleteFunc(t.commands, func(r lease.Command) bool { return r.ID <= rec.Applied })
}

// otherOwner reports whether the writer of rec did not own old, so that it knows of the partition only what old says.
func otherOwner(old, rec lease.Lease) bool {
	return rec.Owner != "" && (rec.Owner != old.Owner || rec.Boot != old.Boot)
}

// commandsLanded checks a lease write that applies commands: every one up to the ID that it names, once, in order, and
// under a new epoch.
func (t *truth) commandsLanded(k lease.Key, old, rec lease.Lease) error {
	if rec.Epoch <= old.Epoch {
		return fmt.Errorf("%v: command %d applied without raising the epoch", k, rec.Applied)
	}
	done, paused := t.finished, old.Paused
	for len(t.commands) > 0 && t.commands[0].ID <= rec.Applied {
		switch r := t.commands[0]; r.Kind {
		case lease.Seek:
			done = r.Seq
		case lease.Pause:
			paused = r.Reason
		case lease.Resume:
			paused = ""
		}
		t.applied = rec.Epoch
		t.commands = t.commands[1:]
	}
	if t.applied != rec.Epoch {
		return fmt.Errorf("%v: a command up to %d applied again", k, rec.Applied)
	}
	if rec.Checkpoint > done || rec.Paused != paused {
		return fmt.Errorf("%v: commands up to %d applied as checkpoint %d, paused %q; wanted at most %d, %q", k, rec.Applied,
			rec.Checkpoint, rec.Paused, done, paused)
	}
	if otherOwner(old, rec) && old.Attempt > 0 && rec.Attempt == 0 && !rec.CheckDeadLetters {
		return fmt.Errorf("%v: commands up to %d reset %d attempts and no lane will check for dead letters", k, rec.Applied,
			old.Attempt)
	}
	t.finished, t.paused = done, paused != ""
	return nil
}
