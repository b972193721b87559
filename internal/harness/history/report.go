package history

import (
	"fmt"
	"sort"
	"strings"
	"time"
)

// Kind is a kind of violation.
type Kind string

// Kinds of findings. Each is a violation.
const (
	// Lost: acknowledged and never called.
	Lost Kind = "lost"
	// Unfinished: called, and no call was ever ok.
	Unfinished Kind = "unfinished"
	// Phantom: called, but never published so, or definitively refused.
	Phantom Kind = "phantom"
	// OrderFirst: first calls of one key not in stream order.
	OrderFirst Kind = "order-first"
	// OrderSkip: a call started before the one before it in its partition was ok.
	OrderSkip Kind = "order-skip"
	// Overlap: calls of two processes on one partition at the same time.
	Overlap Kind = "overlap"
	// SelfOverlap: two calls of one process on one partition at the same time.
	SelfOverlap Kind = "self-overlap"
	// StaleTail: a stopped node's call delivered or finished late.
	StaleTail Kind = "stale-tail"
	// FenceRegress: a call under an older epoch started after a newer one's.
	FenceRegress Kind = "fence-regress"
	// TokenShared: one epoch of a partition used by two processes.
	TokenShared Kind = "token-shared"
	// KeyMoved: one key in two partitions.
	KeyMoved Kind = "key-moved"
	// SeqConflict: one sequence with two messages.
	SeqConflict Kind = "seq-conflict"
	// StoredTwice: one message under two sequences.
	StoredTwice Kind = "stored-twice"
	// Rewind: a repeat without reason, further back than a checkpoint can
	// explain, or not contiguous.
	Rewind Kind = "rewind"
	// EndBeforeStart: a call that ended before it started, or without a start.
	EndBeforeStart Kind = "end-before-start"
	// Stall: a partition or the publishers made no progress for too long.
	Stall Kind = "stall"
)

// Where is the part of a key's messages that is lost.
type Where string

// Parts of a key's messages, seen from those that were called.
const (
	Prefix Where = "prefix"
	Middle Where = "middle"
	Tail   Where = "tail"
	Whole  Where = "whole"
)

// Finding is one violation.
type Finding struct {
	Kind   Kind
	Where  Where // of a lost message, else empty
	Detail string
}

// String renders the finding on one line.
func (f Finding) String() string {
	if f.Where != "" {
		return fmt.Sprintf("%s (%s): %s", f.Kind, f.Where, f.Detail)
	}
	return fmt.Sprintf("%s: %s", f.Kind, f.Detail)
}

// Status is the verdict on a run.
type Status string

// Only a passed run is green.
const (
	Passed       Status = "passed"
	Violated     Status = "violated"
	Inconclusive Status = "inconclusive"
)

// Summary counts what a run did.
type Summary struct {
	Acked, Refused, Unknown int // publishes by outcome
	Calls, Keys, Partitions int
	Kills                   int // kill, term, stop and struck events
	Handoffs                int // changes of a partition's owner
	Takeovers               int // handoffs that follow a kill of the old owner
	Redelivered             int // calls repeated after an ok, or after a call that never ended
	Retried                 int // calls that repeat one which the handler had failed
	StaleTails              int // allowed ones included
	LongestPublishGap       time.Duration
	LongestStall            time.Duration
	StalledPartition        string // where LongestStall was, "group/partition"
}

// Report is the verdict with its reasons.
type Report struct {
	Summary  Summary
	Findings []Finding // sorted by kind
	Missing  []string  // minima that were not reached
}

// Status is violated if anything was found, else inconclusive if a minimum
// was not reached, else passed.
func (r Report) Status() Status {
	switch {
	case len(r.Findings) > 0:
		return Violated
	case len(r.Missing) > 0:
		return Inconclusive
	}
	return Passed
}

// Err is nil only for a passed run.
func (r Report) Err() error {
	if r.Status() == Passed {
		return nil
	}
	return fmt.Errorf("run is %s: %d findings, %d minima not reached", r.Status(), len(r.Findings), len(r.Missing))
}

// Kinds lists the kinds found, sorted, each once.
func (r Report) Kinds() []Kind {
	var kinds []Kind
	for _, f := range r.Findings {
		if len(kinds) == 0 || kinds[len(kinds)-1] != f.Kind {
			kinds = append(kinds, f.Kind)
		}
	}
	return kinds
}

// shownPerKind bounds the text: one fault can break thousands of messages.
const shownPerKind = 5

// String renders the report as text.
func (r Report) String() string {
	var b strings.Builder
	s := r.Summary
	fmt.Fprintf(&b, "%s\n", strings.ToUpper(string(r.Status())))
	fmt.Fprintf(&b, "  published: %d acked, %d refused, %d unknown; longest gap without an ack %s\n",
		s.Acked, s.Refused, s.Unknown, round(s.LongestPublishGap))
	fmt.Fprintf(&b, "  calls:     %d of %d keys in %d partitions; %d redelivered, %d retried\n",
		s.Calls, s.Keys, s.Partitions, s.Redelivered, s.Retried)
	fmt.Fprintf(&b, "  owners:    %d faults, %d handoffs, %d of them takeovers; %d stale tails\n",
		s.Kills, s.Handoffs, s.Takeovers, s.StaleTails)
	fmt.Fprintf(&b, "  stall:     longest %s (%s)\n", round(s.LongestStall), s.StalledPartition)
	for _, m := range r.Missing {
		fmt.Fprintf(&b, "  too few:   %s\n", m)
	}
	r.writeFindings(&b)
	return b.String()
}

func (r Report) writeFindings(b *strings.Builder) {
	count := make(map[Kind]int)
	for _, f := range r.Findings {
		if count[f.Kind]++; count[f.Kind] <= shownPerKind {
			fmt.Fprintf(b, "  %s\n", f)
		}
	}
	for _, k := range r.Kinds() {
		if n := count[k] - shownPerKind; n > 0 {
			fmt.Fprintf(b, "  %s: %d more\n", k, n)
		}
	}
}

func (r *Report) add(kind Kind, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{Kind: kind, Detail: fmt.Sprintf(format, args...)})
}

func (r *Report) sort() {
	sort.SliceStable(r.Findings, func(i, j int) bool { return r.Findings[i].Kind < r.Findings[j].Kind })
}

func round(d time.Duration) time.Duration {
	if d > 10*time.Millisecond {
		return d.Round(time.Millisecond)
	}
	return d.Round(time.Microsecond)
}
