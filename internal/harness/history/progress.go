package history

// tenure is one epoch of a partition as its calls show it. Places are indices
// into the run's ascending list of called sequences.
type tenure struct {
	first Call // first call under the epoch
	last  Call // latest call under the epoch
	low   int  // place of the first call: the checkpoint was right before it
	next  int  // place where the lane has to continue
}

// checkProgress follows a partition's position through its owners: within an
// epoch it only goes forward, one message at a time; a new epoch continues where
// the old one was or, for a reason, from a checkpoint before that.
func (c *checker) checkProgress(r *run) {
	var h tenure
	again := newRepeats()
	for n, call := range r.calls {
		place := r.index[call.Seq]
		repeat := again.called[call.Seq]
		switch {
		case r.stale[n]:
			continue
		case h.first.Start == 0:
			h = tenure{first: call, low: place, next: place}
		case call.Epoch < h.first.Epoch: // a finding of checkEpochs
			h.advance(place, c.rules.finished(call))
			continue
		case call.Epoch > h.first.Epoch || call.owner() != h.first.owner():
			c.checkNewEpoch(r, h, call)
			h = tenure{first: call, low: place, next: place}
		case place < h.next && !repeat: // a finding of checkSkips
			continue
		default:
			c.checkSameEpoch(r, h, call)
			h.next = place
		}
		h.last = call
		h.advance(place, c.rules.finished(call))
		again.note(call, &c.report.Summary)
	}
}

func (h *tenure) advance(place int, finished bool) {
	if finished && place == h.next {
		h.next++
	}
}

func (c *checker) checkSameEpoch(r *run, h tenure, call Call) {
	place := r.index[call.Seq]
	switch {
	case place < h.next && !(place == h.next-1 && c.resultLost(h, call)):
		c.report.add(Rewind, "%s: epoch went back from seq %d", describe(call), h.last.Seq)
	case place > h.next:
		c.checkHole(r, h, call)
	}
}

// resultLost reports whether the call may repeat the one before it under the
// same epoch: its handler died after its work and before its result arrived,
// or the result arrived just after the lane was cancelled. A node that was
// stopped cancels its lanes when it wakes up, and then continues under its old
// epoch.
func (c *checker) resultLost(h tenure, call Call) bool {
	_, stopped := c.reasonToRepeat(h, call)
	return stopped || call.PID != h.last.PID && c.rules.Repeats != RepeatsNever
}

func (c *checker) checkNewEpoch(r *run, h tenure, call Call) {
	moved := call.owner() != h.first.owner()
	if moved {
		c.report.Summary.Handoffs++
		if _, killed := c.firstFault(h.last, call.Start); killed {
			c.report.Summary.Takeovers++
		}
	}
	place := r.index[call.Seq]
	// A handler that crashes right before a planned move looks the same as one
	// that the move killed: the history does not know why calls end.
	cut := place == h.next && h.last.Seq == call.Seq && h.last.open()
	switch {
	case place > h.next:
		c.checkHole(r, h, call)
	case place < h.next && c.sought(r, call):
	case place < h.next || cut:
		c.checkRepeat(r, h, call)
	}
}

// sought reports whether a seek explains that the partition goes back. Each explains one repeat, since the time at
// which it is applied is not known.
func (c *checker) sought(r *run, call Call) bool {
	moves := 0
	for _, e := range c.events {
		if e.Kind == Sought && e.At <= call.Start {
			moves++
		}
	}
	if r.sought >= moves {
		return false
	}
	r.sought++
	return true
}

// checkRepeat checks the first call of a new epoch that repeats messages of
// the one before.
func (c *checker) checkRepeat(r *run, h tenure, call Call) {
	reason, ok := c.reasonToRepeat(h, call)
	switch {
	case !ok:
		c.report.add(Rewind, "%s repeats from there; %s had come to seq %d and was not killed",
			describe(call), h.last.Node, h.last.Seq)
	case r.index[call.Seq] < h.low:
		c.report.add(Rewind, "%s: the checkpoint was at seq %d before, when epoch %d began",
			describe(call), h.first.Seq, h.first.Epoch)
	case r.index[call.Seq] < h.next && c.tooOld(r, call, reason):
		c.report.add(Rewind, "%s was finished more than %s before %s of %s",
			describe(call), c.rules.RepeatWithin, reason.Kind, reason.Node)
	}
}

// reasonToRepeat finds the fault that explains a repeat, the zero event if the
// rules require none.
func (c *checker) reasonToRepeat(h tenure, call Call) (Event, bool) {
	switch c.rules.Repeats {
	case RepeatsAfterOwnerKilled:
		return c.firstFault(h.last, call.Start)
	case RepeatsAfterAnyKill:
		return c.lastFault("", h.first.Start, call.Start)
	case RepeatsAlways:
		return Event{}, true
	}
	return Event{}, false
}

// tooOld reports whether a checkpoint must have covered the call's message when
// the fault happened.
func (c *checker) tooOld(r *run, call Call, fault Event) bool {
	if c.rules.RepeatWithin == 0 || fault.At == 0 {
		return false
	}
	var latest int64
	for _, earlier := range r.calls {
		if earlier.Seq == call.Seq && earlier.End <= call.Start && c.rules.finished(earlier) {
			latest = max(latest, earlier.End)
		}
	}
	return latest != 0 && fault.At-latest > int64(c.rules.RepeatWithin)
}

// checkHole reports a jump over finished messages: repeats are a contiguous
// run. A jump over unfinished ones is a finding of checkSkips.
func (c *checker) checkHole(r *run, h tenure, call Call) {
	if r.finishedBefore(r.seqs[r.index[call.Seq]-1], call.Start) {
		c.report.add(Rewind, "%s: jumped over seq %d, which this owner had to repeat", describe(call), r.seqs[h.next])
	}
}

// repeats counts the calls of messages that were called before.
type repeats struct {
	ok     map[uint64]bool
	opened map[uint64]uint64 // seq → epoch of a call that never ended
	called map[uint64]bool
}

func newRepeats() repeats {
	return repeats{make(map[uint64]bool), make(map[uint64]uint64), make(map[uint64]bool)}
}

func (r repeats) note(call Call, s *Summary) {
	epoch, opened := r.opened[call.Seq]
	switch {
	case r.ok[call.Seq] || opened && epoch != call.Epoch:
		s.Redelivered++
	case r.called[call.Seq]:
		s.Retried++
	}
	r.called[call.Seq] = true
	r.ok[call.Seq] = r.ok[call.Seq] || call.ok()
	if call.open() {
		r.opened[call.Seq] = call.Epoch
	}
}
