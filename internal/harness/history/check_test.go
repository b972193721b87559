package history

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// at is a time of the planted histories; faults are seconds apart, which is
// far more than killSlack.
func at(seconds int) int64 { return int64(seconds) * int64(time.Second) }

var (
	n1first  = owner{"n1", 1}
	n2       = owner{"n2", 2}
	n1second = owner{"n1", 3}
)

func keyOf(seq uint64) string {
	switch {
	case seq >= 17 && seq <= 20:
		return "c"
	case seq == 9 || seq == 10: // two neighbours of one key
		return "a"
	case seq%2 == 1:
		return "a"
	}
	return "b"
}

func idOf(seq uint64) string { return fmt.Sprintf("m%02d", seq) }

func call(o owner, partition int, epoch, seq uint64, start int) Call {
	return Call{
		Node: o.node, Agent: o.agent, PID: 10 * o.agent, Group: "g", Partition: partition, Epoch: epoch, Seq: seq,
		Attempt: 1, Key: keyOf(seq), ID: idOf(seq), Start: at(start), End: at(start + 5), Result: "ok",
	}
}

// sound is a correct run of two partitions. In partition 0 n1 makes calls 1–7
// under epoch 2 and is killed in call 7; n2 continues from the checkpoint, with
// 6, under epoch 3; a planned move brings the partition back to n1 with 13,
// under epoch 5. Partition 1 stays with n2.
func sound() *History {
	h := &History{Events: []Event{{Start, "n1", at(1)}, {Start, "n2", at(1)}, {Kill, "n1", at(72)},
		{Start, "n1", at(100)}}}
	for seq := uint64(1); seq <= 20; seq++ {
		h.Publishes = append(h.Publishes, PublishRecord{ID: idOf(seq), Key: keyOf(seq), Seq: seq, Outcome: Stored,
			Sent: at(2), Acked: at(3)})
	}
	for seq := uint64(1); seq <= 7; seq++ {
		h.Calls = append(h.Calls, call(n1first, 0, 2, seq, 10*int(seq)))
	}
	h.Calls[6].End, h.Calls[6].Result = 0, ""
	for seq := uint64(6); seq <= 12; seq++ {
		h.Calls = append(h.Calls, call(n2, 0, 3, seq, 140+10*int(seq)))
	}
	for seq := uint64(13); seq <= 16; seq++ {
		h.Calls = append(h.Calls, call(n1second, 0, 5, seq, 170+10*int(seq)))
	}
	for seq := uint64(17); seq <= 20; seq++ {
		h.Calls = append(h.Calls, call(n2, 1, 1, seq, 830+10*int(seq)))
	}
	return h
}

func strict() Rules { return Rules{Repeats: RepeatsAfterOwnerKilled} }

// of finds the n-th call (from 1) of a sequence.
func (h *History) of(seq uint64, n int) *Call {
	for i := range h.Calls {
		if h.Calls[i].Seq == seq {
			if n--; n == 0 {
				return &h.Calls[i]
			}
		}
	}
	panic(fmt.Sprintf("no such call of %d", seq))
}

func (h *History) drop(seqs ...uint64) {
	h.Calls = slices.DeleteFunc(h.Calls, func(c Call) bool { return slices.Contains(seqs, c.Seq) })
}

// struckBefore has the first owner be struck, instead of killed, so many seconds before its last call, after which
// another owner repeats some.
func (h *History) struckBefore(seconds int) {
	h.Events[2] = Event{Struck, "n1", at(70 - seconds)}
}

// swap exchanges what two calls were called with, at their times.
func swap(a, b *Call) {
	a.Seq, b.Seq = b.Seq, a.Seq
	a.Key, b.Key = b.Key, a.Key
	a.ID, b.ID = b.ID, a.ID
}

func (h *History) publish(p PublishRecord) {
	p.Sent, p.Acked = at(2), at(3)
	h.Publishes = append(h.Publishes, p)
}

// repeatAll has the last owner of partition 0 make all its calls again, under an epoch.
func repeatAll(h *History, epoch uint64, from int) {
	for seq := uint64(1); seq <= 16; seq++ {
		h.Calls = append(h.Calls, call(n1second, 0, epoch, seq, from+10*int(seq)))
	}
}

func TestSoundRunPasses(t *testing.T) {
	rules := strict()
	rules.MinAcked, rules.MinKeys, rules.MinKills = 20, 3, 1
	rules.MinHandoffs, rules.MinTakeovers, rules.MinRedelivered = 2, 1, 2
	report := Check(*sound(), rules)
	if report.Err() != nil {
		t.Fatal(report)
	}
	want := Summary{
		Acked: 20, Calls: 22, Keys: 3, Partitions: 2, Kills: 1, Handoffs: 2, Takeovers: 1, Redelivered: 2,
		LongestStall: 997 * time.Second, StalledPartition: "g/1",
	}
	if report.Summary != want {
		t.Errorf("summary\n got %+v\nwant %+v", report.Summary, want)
	}
}

func TestEveryPlantedViolationIsFoundAlone(t *testing.T) {
	for _, plant := range plants {
		t.Run(plant.name, func(t *testing.T) {
			h, rules := sound(), strict()
			plant.do(h, &rules)
			report := Check(*h, rules)
			want := append([]Kind{plant.want}, plant.also...)
			if got := report.Kinds(); !slices.Equal(got, want) {
				t.Errorf("found %v, want %v\n%s", got, want, report)
			}
			if where := report.Findings; plant.where != "" && (len(where) == 0 || where[0].Where != plant.where) {
				t.Errorf("want where %s\n%s", plant.where, report)
			}
			if report.Status() != Violated || report.Err() == nil {
				t.Errorf("status %s, err %v", report.Status(), report.Err())
			}
		})
	}
}

var plants = []struct {
	name  string
	do    func(*History, *Rules)
	want  Kind
	where Where
	also  []Kind // which the planted line cannot be without
}{
	{name: "one message dropped", want: Lost, where: Middle, do: func(h *History, _ *Rules) { h.drop(3) }},
	{name: "first message of a key dropped", want: Lost, where: Prefix, do: func(h *History, _ *Rules) { h.drop(1) }},
	{name: "last message of a key dropped", want: Lost, where: Tail, do: func(h *History, _ *Rules) { h.drop(16) }},
	{name: "key dropped", want: Lost, where: Whole, do: func(h *History, _ *Rules) { h.drop(17, 18, 19, 20) }},
	{name: "everything dropped", want: Lost, where: Whole, do: func(h *History, _ *Rules) { h.Calls = nil }},
	{name: "duplicate acknowledged, dropped", want: Lost, where: Middle, do: func(h *History, _ *Rules) {
		h.drop(3)
		h.Publishes[2].Outcome = Duplicate
	}},
	{name: "group that is asked for made no call", want: Lost, where: Whole, do: func(_ *History, r *Rules) {
		r.Groups = []string{"g", "other"}
	}},
	{name: "never ok", want: Unfinished, do: func(h *History, _ *Rules) { h.of(16, 1).Result = "retry" }},
	{name: "last call never ended", want: Unfinished, do: func(h *History, _ *Rules) {
		h.of(16, 1).End, h.of(16, 1).Result = 0, ""
	}},
	{name: "unknown to the publisher, called, never ok", want: Unfinished, do: func(h *History, _ *Rules) {
		h.publish(PublishRecord{ID: "m21", Key: "a", Outcome: Unknown})
		c := call(n1second, 0, 5, 21, 400)
		c.Result = "retry"
		h.Calls = append(h.Calls, c)
	}},
	{name: "rejected where that is no end", want: Unfinished, do: func(h *History, _ *Rules) {
		h.of(16, 1).Result = "reject"
	}},
	{name: "called, not published", want: Phantom, do: func(h *History, _ *Rules) {
		h.Calls = append(h.Calls, call(n1second, 0, 5, 21, 400))
	}},
	{name: "called, refused", want: Phantom, do: func(h *History, _ *Rules) {
		h.Publishes[15].Outcome, h.Publishes[15].Seq = Refused, 0
	}},
	{name: "called with another key", want: Phantom, do: func(h *History, _ *Rules) { h.Publishes[15].Key = "z" }},
	{name: "one key swapped", want: OrderFirst, do: func(h *History, _ *Rules) { swap(h.of(9, 1), h.of(10, 1)) }},
	{name: "two keys swapped", want: OrderSkip, do: func(h *History, _ *Rules) { swap(h.of(3, 1), h.of(4, 1)) }},
	{name: "went on after a retry", want: OrderSkip, also: []Kind{Unfinished}, do: func(h *History, _ *Rules) {
		h.of(3, 1).Result = "retry"
	}},
	{name: "retried after the next", want: OrderSkip, do: func(h *History, _ *Rules) {
		h.of(15, 1).Result = "retry"
		h.Calls = append(h.Calls, call(n1second, 0, 5, 15, 340))
		h.Calls[len(h.Calls)-1].Epoch = 6 // by a new epoch, so that only the skip is planted
	}, also: []Kind{Rewind}},
	{name: "handler outlived its node", want: Overlap, do: func(h *History, _ *Rules) {
		h.of(7, 1).End, h.of(7, 1).Result = at(203), "ok"
	}},
	{name: "two handlers of one node", want: Overlap, do: func(h *History, _ *Rules) {
		h.of(13, 1).PID, h.of(13, 1).End = 99, at(312)
	}},
	{name: "doubled across owners", want: Overlap, also: []Kind{TokenShared}, do: func(h *History, r *Rules) {
		c := *h.of(12, 1)
		c.Node, c.Agent, c.PID = "n1", 3, 30
		h.Calls = append(h.Calls, c)
		r.Repeats = RepeatsAlways
	}},
	{name: "doubled across owners, with an epoch of its own", want: FenceRegress, also: []Kind{Overlap},
		do: func(h *History, r *Rules) {
			c := *h.of(8, 1)
			c.Node, c.Agent, c.PID, c.Epoch = "n3", 7, 70, 4
			h.Calls = append(h.Calls, c)
			r.Repeats = RepeatsAlways
		}},
	{name: "repeated from the beginning, once more than the operator sought", want: Rewind,
		do: func(h *History, _ *Rules) {
			h.Events = append(h.Events, Event{Kind: Sought, At: at(290)})
			repeatAll(h, 6, 350)
			repeatAll(h, 7, 550)
		}},
	{name: "next call before the end", want: SelfOverlap, do: func(h *History, _ *Rules) { h.of(3, 1).End = at(42) }},
	{name: "late after a stop, not allowed", want: StaleTail, do: stopInsteadOfKill},
	{name: "late twice after one stop", want: StaleTail, do: func(h *History, r *Rules) {
		stopInsteadOfKill(h, r)
		r.AllowStaleTail = true
		again := call(n1first, 0, 2, 8, 202)
		again.Start += int64(200 * time.Millisecond)
		h.Calls = append(h.Calls, again)
	}},
	{name: "epoch lowered", want: FenceRegress, do: func(h *History, _ *Rules) { h.of(14, 1).Epoch = 4 }},
	{name: "epoch raised", want: FenceRegress, do: func(h *History, _ *Rules) { h.of(14, 1).Epoch = 6 }},
	{name: "epoch of the old owner", want: TokenShared, do: func(h *History, _ *Rules) {
		for seq := uint64(13); seq <= 16; seq++ {
			h.of(seq, 1).Epoch = 3
		}
	}},
	{name: "epoch of the node's former life", want: TokenShared, do: func(h *History, _ *Rules) {
		for seq := uint64(17); seq <= 18; seq++ {
			h.of(seq, 1).Agent, h.of(seq, 1).PID = 9, 90
		}
	}},
	{name: "key in two partitions", want: KeyMoved, do: func(h *History, _ *Rules) {
		h.publish(PublishRecord{ID: "m21", Key: "a", Seq: 21, Outcome: Stored})
		h.Calls = append(h.Calls, call(n2, 1, 1, 21, 1100))
	}},
	{name: "sequence with two messages", want: SeqConflict, do: func(h *History, _ *Rules) {
		h.publish(PublishRecord{ID: "x", Key: "b", Outcome: Unknown})
		h.of(6, 2).ID = "x"
	}},
	{name: "message stored twice", want: StoredTwice, do: func(h *History, _ *Rules) {
		h.publish(PublishRecord{ID: "m03", Key: "a", Seq: 21, Outcome: Stored})
		c := call(n1second, 0, 5, 21, 400)
		c.ID = "m03"
		h.Calls = append(h.Calls, c)
	}},
	{name: "repeat without a kill", want: Rewind, do: func(h *History, _ *Rules) { h.Events = nil }},
	{name: "repeat after a clean stop", want: Rewind, do: func(h *History, _ *Rules) { h.Events[2].Kind = Term }},
	{name: "repeat after the kill of another node", want: Rewind, do: func(h *History, _ *Rules) {
		h.Events[2].Node = "n3"
	}},
	{name: "repeat after a kill before the owner's time", want: Rewind, do: func(h *History, _ *Rules) {
		h.Events[2].At = at(5)
	}},
	{name: "repeat of a node that was struck long before its first call", want: Rewind,
		do: func(h *History, _ *Rules) { h.struckBefore(6) }},
	{name: "repeat where nothing may repeat", want: Rewind, do: func(_ *History, r *Rules) { r.Repeats = RepeatsNever }},
	{name: "call cut off by a planned move", want: Rewind, do: func(h *History, _ *Rules) {
		h.of(12, 1).End, h.of(12, 1).Result = 0, ""
		h.Calls = append(h.Calls, call(n1second, 0, 5, 12, 290))
	}},
	{name: "repeat at a planned move", want: Rewind, do: func(h *History, _ *Rules) {
		h.Calls = append(h.Calls, call(n1second, 0, 5, 12, 290))
	}},
	{name: "repeat within an epoch", want: Rewind, do: func(h *History, _ *Rules) {
		h.Calls = append(h.Calls, call(n1second, 0, 5, 16, 340))
	}},
	{name: "repeat within an epoch by a new handler, further back", want: Rewind, do: func(h *History, _ *Rules) {
		c := call(n1second, 0, 5, 15, 340)
		c.PID = 99
		h.Calls = append(h.Calls, c)
	}},
	{name: "repeats within an epoch after a stop", want: Rewind, do: func(h *History, _ *Rules) {
		h.Events = append(h.Events, Event{Stop, "n1", at(332)}, Event{Cont, "n1", at(334)})
		h.Calls = append(h.Calls, call(n1second, 0, 5, 15, 340), call(n1second, 0, 5, 16, 350))
	}},
	{name: "repeat within an epoch after the stop of another node", want: Rewind, do: func(h *History, _ *Rules) {
		h.Events = append(h.Events, Event{Stop, "n2", at(332)}, Event{Cont, "n2", at(334)})
		h.Calls = append(h.Calls, call(n1second, 0, 5, 16, 340))
	}},
	{name: "repeat from before an earlier checkpoint", want: Rewind, do: func(h *History, _ *Rules) {
		h.Events = append(h.Events, Event{Kill, "n2", at(270)})
		for seq := uint64(5); seq <= 12; seq++ {
			h.Calls = append(h.Calls, call(n1second, 0, 5, seq, 275)) // before 13 at 300
			h.Calls[len(h.Calls)-1].End = at(275)
		}
	}},
	{name: "repeat older than a checkpoint can be", want: Rewind, do: func(_ *History, r *Rules) {
		r.RepeatWithin = time.Second
	}},
	{name: "repeats with a hole", want: Rewind, do: func(h *History, _ *Rules) {
		h.Calls = append(h.Calls, call(n2, 0, 3, 4, 180)) // and then 6, not 5
	}},
	{name: "end before start", want: EndBeforeStart, do: func(h *History, _ *Rules) {
		h.of(8, 1).Start, h.of(8, 1).End = h.of(8, 1).End, h.of(8, 1).Start
	}},
	{name: "end without start", want: EndBeforeStart, do: func(h *History, _ *Rules) { h.of(8, 1).Start = 0 }},
	{name: "partition made no progress", want: Stall, do: func(_ *History, r *Rules) { r.MaxStall = 900 * time.Second }},
	{name: "publishers made no progress", want: Stall, do: func(h *History, r *Rules) {
		r.MaxPublishGap = time.Second
		h.Publishes[19].Acked = at(5)
	}},
}

// stopInsteadOfKill lets n1 be stopped in call 7 and finish it after n2 has
// started.
func stopInsteadOfKill(h *History, _ *Rules) {
	h.Events[2].Kind = Stop
	h.Events[3] = Event{Cont, "n1", at(202)}
	h.of(7, 1).End, h.of(7, 1).Result = at(203), "ok"
}

func TestLawfulRunsPass(t *testing.T) {
	for name, do := range map[string]func(*History, *Rules){
		"one late call after a stop, allowed": func(h *History, r *Rules) {
			stopInsteadOfKill(h, r)
			r.AllowStaleTail = true
		},
		"unknown and never stored": func(h *History, _ *Rules) {
			h.publish(PublishRecord{ID: "x", Key: "a", Outcome: Unknown})
		},
		"refused and never called": func(h *History, _ *Rules) {
			h.publish(PublishRecord{ID: "x", Key: "a", Outcome: Refused})
		},
		"unknown and called": func(h *History, _ *Rules) {
			h.Publishes[3].Outcome, h.Publishes[3].Seq = Unknown, 0
		},
		"duplicate of the same sequence": func(h *History, _ *Rules) {
			h.publish(PublishRecord{ID: "m03", Key: "a", Seq: 3, Outcome: Duplicate})
		},
		"refused first, stored when sent again": func(h *History, _ *Rules) {
			h.publish(PublishRecord{ID: "m03", Key: "a", Outcome: Refused})
		},
		"retried in place": func(h *History, _ *Rules) {
			c := *h.of(16, 1)
			c.Result = "retry"
			c.Start, c.End = at(327), at(328)
			h.Calls = append(h.Calls, c)
		},
		"retried at the next owner": func(h *History, r *Rules) {
			c := *h.of(13, 1)
			c.Node, c.Agent, c.PID, c.Epoch, c.Result = "n2", 2, 20, 3, "retry"
			c.Start, c.End = at(280), at(281)
			h.Calls = append(h.Calls, c)
		},
		"handler died after its work, before its answer": func(h *History, _ *Rules) {
			c := call(n1second, 0, 5, 16, 340)
			c.PID = 99
			h.Calls = append(h.Calls, c)
		},
		"result lost since its node was stopped": func(h *History, _ *Rules) {
			h.Events = append(h.Events, Event{Stop, "n1", at(332)}, Event{Cont, "n1", at(334)})
			h.Calls = append(h.Calls, call(n1second, 0, 5, 16, 340))
		},
		"repeat at another owner's kill, where allowed": func(h *History, r *Rules) {
			h.Events[2].Node = "n3"
			r.Repeats = RepeatsAfterAnyKill
		},
		"repeat of a node that was struck a moment before its first call": func(h *History, _ *Rules) { h.struckBefore(4) },
		"repeat without a kill, where allowed": func(h *History, r *Rules) {
			h.Events = nil
			r.Repeats = RepeatsAlways
		},
		"rejected, where that is an end": func(h *History, r *Rules) {
			h.of(16, 1).Result = "reject"
			r.AllowReject = true
		},
		"repeated from the beginning, as the operator sought": func(h *History, _ *Rules) {
			h.Events = append(h.Events, Event{Kind: Sought, At: at(340)})
			repeatAll(h, 6, 350)
		},
		"repeat young enough":    func(_ *History, r *Rules) { r.RepeatWithin = 10 * time.Second },
		"records in any order":   func(h *History, _ *Rules) { slices.Reverse(h.Calls); slices.Reverse(h.Events) },
		"two groups, each whole": secondGroup,
	} {
		t.Run(name, func(t *testing.T) {
			h, rules := sound(), strict()
			do(h, &rules)
			if report := Check(*h, rules); report.Err() != nil {
				t.Error(report)
			}
		})
	}
}

func secondGroup(h *History, r *Rules) {
	for _, c := range slices.Clone(h.Calls) {
		c.Group = "h"
		h.Calls = append(h.Calls, c)
	}
	r.Groups = []string{"g", "h"}
}

func TestRunThatProvesNothingIsInconclusive(t *testing.T) {
	for name, set := range map[string]func(*Rules){
		"publishes":    func(r *Rules) { r.MinAcked = 21 },
		"keys":         func(r *Rules) { r.MinKeys = 4 },
		"faults":       func(r *Rules) { r.MinKills = 2 },
		"handoffs":     func(r *Rules) { r.MinHandoffs = 3 },
		"takeovers":    func(r *Rules) { r.MinTakeovers = 2 },
		"redeliveries": func(r *Rules) { r.MinRedelivered = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			rules := strict()
			set(&rules)
			report := Check(*sound(), rules)
			if report.Status() != Inconclusive || report.Err() == nil {
				t.Errorf("status %s, err %v", report.Status(), report.Err())
			}
			if !strings.Contains(report.String(), "too few") {
				t.Errorf("the text does not say what is missing:\n%s", report)
			}
		})
	}
	h := sound()
	h.drop(3)
	if got := Check(*h, Rules{Repeats: RepeatsAlways, MinAcked: 99}).Status(); got != Violated {
		t.Errorf("a violated run with too little in it is %s", got)
	}
}

func TestReportBoundsItsText(t *testing.T) {
	h := sound()
	h.Calls = nil
	text := Check(*h, strict()).String()
	if !strings.Contains(text, "lost: 15 more") || strings.Count(text, "\n") > 15 {
		t.Error(text)
	}
}

func TestCallLogJoinsStartsAndEnds(t *testing.T) {
	want := sound().Calls
	var log bytes.Buffer
	if err := Write(&log, logLines(want)); err != nil {
		t.Fatal(err)
	}
	got, err := ReadCalls(&log)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(byStart(got), byStart(want)) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// logLines is what handlers write for the calls.
func logLines(calls []Call) []Call {
	var lines []Call
	for _, c := range calls {
		start := c
		start.End, start.Result = 0, ""
		lines = append(lines, start)
		if !c.open() {
			lines = append(lines, c)
		}
	}
	return lines
}

// Every line of the log matters: each start line, and each end line save one
// that a call which was made again later makes up for.
func TestEveryLineDroppedFromTheCallLogIsFound(t *testing.T) {
	lines := logLines(sound().Calls)
	for i, dropped := range lines {
		var log bytes.Buffer
		if err := Write(&log, slices.Delete(slices.Clone(lines), i, i+1)); err != nil {
			t.Fatal(err)
		}
		calls, err := ReadCalls(&log)
		if err != nil {
			t.Fatal(err)
		}
		h := sound()
		h.Calls = calls
		if dropped.Seq == 7 && dropped.Epoch == 2 {
			continue // the call in flight at the kill: it might as well not have begun
		}
		if report := Check(*h, strict()); report.Status() != Violated {
			t.Errorf("without line %d (%+v):\n%s", i+1, dropped, report)
		}
	}
}

func TestTornLogIsAnError(t *testing.T) {
	if _, err := ReadCalls(strings.NewReader(`{"node":"n1","seq":1,"start":5}` + "\n" + `{"node":"n1","se`)); err == nil {
		t.Error("no error")
	}
}

func TestRecordsSurviveTheirFile(t *testing.T) {
	h := sound()
	var p, e bytes.Buffer
	if err := Write(&p, h.Publishes); err != nil {
		t.Fatal(err)
	}
	if err := Write(&e, h.Events); err != nil {
		t.Fatal(err)
	}
	publishes, err := Read[PublishRecord](&p)
	if err != nil || !slices.Equal(publishes, h.Publishes) {
		t.Errorf("%v: %v", err, publishes)
	}
	events, err := Read[Event](&e)
	if err != nil || !slices.Equal(events, h.Events) {
		t.Errorf("%v: %v", err, events)
	}
}

func TestResumedAfterCountsFromTheKill(t *testing.T) {
	h := sound()
	got := ResumedAfter(*h, h.Events[2])
	want := []Resumed{{Group: "g", Partition: 0, To: "n2", After: 128 * time.Second}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := ResumedAfter(*h, Event{At: h.Events[2].At}); !slices.Equal(got, want) {
		t.Errorf("of all nodes: got %+v, want %+v", got, want)
	}
	h.drop(6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
	if got := ResumedAfter(*h, h.Events[2]); len(got) != 1 || got[0].To != "" {
		t.Errorf("no partition resumed: %+v", got)
	}
}

func TestPlannedMovesLeaveTakeoversOut(t *testing.T) {
	h := sound()
	want := []Move{{Group: "g", Partition: 0, From: "n2", To: "n1", At: at(300), Pause: 35 * time.Second}}
	if got := PlannedMoves(*h); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestFiguresCountFromThePublishWhereThereWasNoBacklog(t *testing.T) {
	h := sound()
	h.Publishes[5].Acked, h.Publishes[12].Acked = at(199), at(298) // 6 and 13
	h.of(7, 1).Start = at(71)
	if got := ResumedAfter(*h, h.Events[2]); len(got) != 1 || got[0].After != time.Second {
		t.Errorf("got %+v", got)
	}
	if got := PlannedMoves(*h); len(got) != 1 || got[0].Pause != 2*time.Second || got[0].Backoff {
		t.Errorf("got %+v", got)
	}
}

func TestFiguresByNearestRank(t *testing.T) {
	var d []time.Duration
	for i := 200; i >= 1; i-- {
		d = append(d, time.Duration(i))
	}
	if got, want := Summarize(d), (Figures{Count: 200, Median: 100, P99: 198, Worst: 200}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := Summarize(d[:1]), (Figures{Count: 1, Median: 200, P99: 200, Worst: 200}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := Summarize(nil); got != (Figures{}) {
		t.Errorf("got %+v", got)
	}
}
