package history

import (
	"maps"
	"slices"
)

// checkIdentity: a sequence names one message and a message has one sequence;
// nothing is called that was not published.
func (c *checker) checkIdentity() {
	ids, seqs := make(map[uint64][]string), make(map[string][]uint64)
	note := func(seq uint64, id string) {
		if seq == 0 {
			return
		}
		if !slices.Contains(ids[seq], id) {
			ids[seq] = append(ids[seq], id)
		}
		if !slices.Contains(seqs[id], seq) {
			seqs[id] = append(seqs[id], seq)
		}
	}
	for _, records := range c.publishes {
		for _, p := range records {
			note(p.Seq, p.ID)
		}
	}
	for _, call := range c.calls {
		note(call.Seq, call.ID)
	}
	for _, seq := range slices.Sorted(maps.Keys(ids)) {
		if len(ids[seq]) > 1 {
			c.report.add(SeqConflict, "seq %d holds %q", seq, ids[seq])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(seqs)) {
		if len(seqs[id]) > 1 {
			c.report.add(StoredTwice, "id %q is stored as %d", id, seqs[id])
		}
	}
	c.checkPhantoms()
}

func (c *checker) checkPhantoms() {
	seen := make(map[string]bool)
	for _, call := range c.calls {
		if seen[call.ID] {
			continue
		}
		switch p, published := c.published(call.ID); {
		case !published:
			c.report.add(Phantom, "%s was never published", describe(call))
		case p.Outcome == Refused:
			c.report.add(Phantom, "%s was refused at its publisher", describe(call))
		case p.Key != call.Key:
			c.report.add(Phantom, "%s was published with key %q", describe(call), p.Key)
		default:
			continue
		}
		seen[call.ID] = true
	}
}

// published is the record of a message, the most definite if it has several.
func (c *checker) published(id string) (PublishRecord, bool) {
	var best PublishRecord
	records := c.publishes[id]
	for i, p := range records {
		if i == 0 || p.acked() || best.Outcome == Refused {
			best = p
		}
	}
	return best, len(records) > 0
}

// checkKeys: a key stays in its partition.
func (c *checker) checkKeys() {
	partition := make(map[string]int)
	for _, call := range c.calls {
		if p, known := partition[call.Key]; !known {
			partition[call.Key] = call.Partition
		} else if p != call.Partition {
			c.report.add(KeyMoved, "%s: the key was in partition %d before", describe(call), p)
		}
	}
	c.report.Summary.Keys = len(partition)
}

// span is the first and last sequence of a key that a group called.
type span struct{ first, last uint64 }

// where tells on which side of the span a lost sequence lies.
func (s span) where(seq uint64) Where {
	switch {
	case s == span{}:
		return Whole
	case seq < s.first:
		return Prefix
	case seq > s.last:
		return Tail
	}
	return Middle
}

// checkComplete: the group finished every message that was acknowledged, and
// every message that it called (which therefore is stored).
func (c *checker) checkComplete(group string) {
	called, finished := make(map[string]bool), make(map[string]bool)
	spans := make(map[string]span)
	for _, call := range c.calls {
		if call.Group != group {
			continue
		}
		called[call.ID] = true
		finished[call.ID] = finished[call.ID] || c.rules.finished(call)
		s, known := spans[call.Key]
		if !known {
			s = span{call.Seq, call.Seq}
		}
		spans[call.Key] = span{min(s.first, call.Seq), max(s.last, call.Seq)}
	}
	for _, id := range slices.Sorted(maps.Keys(c.publishes)) {
		p, _ := c.published(id)
		switch {
		case finished[id]:
		case called[id]:
			c.report.add(Unfinished, "group %s: id %q key %q seq %d was called and never finished", group, id, p.Key, p.Seq)
		case p.acked():
			c.report.add(Lost, "group %s: id %q key %q seq %d was acknowledged and never called", group, id, p.Key, p.Seq)
			c.report.Findings[len(c.report.Findings)-1].Where = spans[p.Key].where(p.Seq)
		}
	}
}

// checkFirstCalls: per key, first calls happen in stream order.
func (c *checker) checkFirstCalls(group string) {
	seen := make(map[uint64]bool)
	highest := make(map[string]uint64)
	for _, call := range c.calls {
		if call.Group != group || seen[call.Seq] {
			continue
		}
		seen[call.Seq] = true
		if h := highest[call.Key]; call.Seq < h {
			c.report.add(OrderFirst, "%s: first call after that of seq %d of the same key", describe(call), h)
		}
		highest[call.Key] = max(highest[call.Key], call.Seq)
	}
}
