package history

// checkOverlaps: one call of a partition at a time. A call that never ended
// counts as over when it started: when its process died is not known.
func (c *checker) checkOverlaps(r *run) {
	var active []Call
	for i, call := range r.calls {
		if r.stale[i] {
			continue
		}
		still := active[:0]
		for _, other := range active {
			if other.End > call.Start {
				still = append(still, other)
				c.report.add(overlapKind(other, call), "%s, in flight until %d, and %s, from %d",
					describe(other), other.End, describe(call), call.Start)
			}
		}
		active = append(still, call)
	}
}

func overlapKind(a, b Call) Kind {
	if a.owner() == b.owner() && a.PID == b.PID {
		return SelfOverlap
	}
	return Overlap
}

// checkEpochs: epochs never go back, and each belongs to one process of one node.
func (c *checker) checkEpochs(r *run) {
	var highest uint64
	owners := make(map[uint64]owner)
	shared := make(map[uint64]bool)
	for i, call := range r.calls {
		if o, known := owners[call.Epoch]; !known {
			owners[call.Epoch] = call.owner()
		} else if o != call.owner() && !shared[call.Epoch] {
			shared[call.Epoch] = true
			c.report.add(TokenShared, "%s: the epoch was used by %s (agent %d) before", describe(call), o.node, o.agent)
		}
		if call.Epoch < highest && !r.stale[i] {
			c.report.add(FenceRegress, "%s started after a call under epoch %d", describe(call), highest)
		}
		highest = max(highest, call.Epoch)
	}
}

// checkSkips: a call starts only after the one before it in its partition was
// finished. The one before is the next lower sequence that the group called
// at all: one that it never called is lost, which checkComplete finds.
func (c *checker) checkSkips(r *run) {
	first := make(map[uint64]Call)
	inFlight := func(seq uint64, at int64) bool {
		call, called := first[seq]
		return called && call.End > at // reported as an overlap
	}
	skipped := make(map[uint64]bool)
	for _, call := range r.calls {
		if _, called := first[call.Seq]; !called {
			first[call.Seq] = call
		}
		i := r.index[call.Seq]
		if i == 0 || skipped[call.Seq] {
			continue
		}
		before := r.seqs[i-1]
		if r.finishedBefore(before, call.Start) || inFlight(before, call.Start) ||
			c.firstOfKeySwapped(first, r, call, before) {
			continue
		}
		skipped[call.Seq] = true
		c.report.add(OrderSkip, "%s started at %d, when seq %d was not finished", describe(call), call.Start, before)
	}
}

// firstOfKeySwapped reports whether the sequence before the call's has the same
// key and was not called until later: checkFirstCalls reports that one.
func (c *checker) firstOfKeySwapped(first map[uint64]Call, r *run, call Call, before uint64) bool {
	if _, called := first[before]; called {
		return false
	}
	for _, later := range r.calls {
		if later.Seq == before {
			return later.Key == call.Key
		}
	}
	return false
}

// checkStaleTails marks calls under an older epoch that ran while or after a
// newer owner's first call started, because their node was stopped. One such
// call for each partition and stop is what a fence cannot prevent.
func (c *checker) checkStaleTails(r *run) {
	excused := make(map[Event]bool)
	for i, call := range r.calls {
		stop, late := c.lateByStop(r, call)
		if !late {
			continue
		}
		r.stale[i] = true
		c.report.Summary.StaleTails++
		if !c.rules.AllowStaleTail || excused[stop] {
			c.report.add(StaleTail, "%s, late after the stop at %d", describe(call), stop.At)
		}
		excused[stop] = true
	}
}

// lateByStop finds the stop that explains why the call was still running, or
// started, after a call under a newer epoch started.
func (c *checker) lateByStop(r *run, call Call) (Event, bool) {
	for epoch, start := range r.epochs {
		if epoch <= call.Epoch || start >= call.over() {
			continue
		}
		for _, stop := range c.events {
			during := stop.At <= start && stop.At <= call.over() && call.Start <= c.contAfter(stop)+killSlack
			if stop.Kind == Stop && stop.Node == call.Node && during {
				return stop, true
			}
		}
	}
	return Event{}, false
}

// contAfter returns when the stopped node continued, or the time of the stop.
func (c *checker) contAfter(stop Event) int64 {
	for _, e := range c.events {
		if e.Kind == Cont && e.Node == stop.Node && e.At >= stop.At {
			return e.At
		}
	}
	return stop.At
}
