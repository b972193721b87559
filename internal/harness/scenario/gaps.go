package scenario

import (
	"slices"
	"time"

	"leasehold/internal/harness/history"
)

// InOrder is a copy of the calls, sorted by their start.
func InOrder(calls []history.Call) []history.Call {
	sorted := slices.Clone(calls)
	slices.SortStableFunc(sorted, func(a, b history.Call) int {
		switch {
		case a.Start < b.Start:
			return -1
		case a.Start > b.Start:
			return 1
		}
		return 0
	})
	return sorted
}

// Gaps knows how long partitions started nothing although they had work.
type Gaps struct {
	calls map[int][]history.Call // By partition, in order.
	Acked map[string]int64       // By message id.
}

// NewGaps reads the calls and publishes of a history.
func NewGaps(h history.History) Gaps {
	g := Gaps{make(map[int][]history.Call), make(map[string]int64)}
	for _, call := range InOrder(h.Calls) {
		g.calls[call.Partition] = append(g.calls[call.Partition], call)
	}
	for _, p := range h.Publishes {
		g.Acked[p.ID] = p.Acked
	}
	return g
}

// Longest is the longest time from the end of a call, or from the publish of
// the next message if that was later, to the start of the next one between these
// times.
func (g Gaps) Longest(partition int, from, to int64) time.Duration {
	var longest, free int64
	for _, call := range g.calls[partition] {
		if free != 0 && from <= call.Start && call.Start < to {
			longest = max(longest, call.Start-max(free, g.Acked[call.ID]))
		}
		free = max(free, call.Start, call.End)
	}
	return time.Duration(longest)
}

// Which chooses calls.
type Which func(history.Call) bool

// OkOf chooses the calls of a key that succeeded.
func OkOf(key string) Which {
	return func(c history.Call) bool { return c.Key == key && c.Result == "ok" }
}

// Only is the group's part of a history, and of that the chosen calls; nil chooses all.
func Only(h history.History, group string, chosen Which) history.History {
	h.Calls = slices.DeleteFunc(slices.Clone(h.Calls), func(c history.Call) bool {
		return c.Group != group || chosen != nil && !chosen(c)
	})
	return h
}
