package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"leasehold/internal/api"
	"leasehold/internal/jsondata"
	"leasehold/partitioner"
)

// fakeRequests is a group "billing" with dead letters; what was ordered is kept for the test to look at.
type fakeRequests struct {
	fakeMembers
	letters   []api.Letter
	asks      []api.Ask
	polls     atomic.Int32 // Looks at how far a request is.
	applyIn   int32        // Looks until waiting is applied; 0: never.
	busy      bool         // Calls that wait are refused.
	ordered   []uint64
	waiting   []int                 // Partitions that never apply anything.
	changed   *int                  // By a resume.
	releasing []int                 // Partitions that never come to an end with what is released.
	again     map[uint64]api.Letter // What becomes of messages that were released, by sequence; others are handled.
	mostPage  int                   // Largest page asked for.
}

// someLetters are n dead letters with keys "c 1", "c 2", …; every third is parked.
func someLetters(n int) []api.Letter {
	var all []api.Letter
	for i := 1; i <= n; i++ {
		data := fmt.Sprintf(`{"n":%d}`, i)
		l := api.Letter{Number: uint64(i), ID: fmt.Sprintf("orders/%d/%d", i%8, 100+i), Kind: "dead", Reason: "max_attempts",
			Error: "boom", Partition: i % 8, Seq: uint64(100 + i), Key: fmt.Sprintf("c%%20%d", i), Attempts: 8,
			Payload: jsondata.New([]byte(data))}
		if i%3 == 0 {
			l.Kind, l.Reason = "parked", "parked"
		}
		all = append(all, l)
	}
	return all
}

func (f *fakeRequests) known(group string) error {
	if group != "billing" {
		return api.Mark(api.ErrNotFound, fmt.Sprintf("there is no group %q", group))
	}
	return nil
}

func (f *fakeRequests) Ask(_ context.Context, group string, a api.Ask) (*api.Asked, error) {
	if !a.DryRun {
		f.asks = append(f.asks, a)
	}
	return &api.Asked{ID: 7, Group: group, Kind: a.Kind, DryRun: a.DryRun, Changed: f.changed, Partitions: 8, Seq: 41,
		Again: 12, Skipped: 0, Waiting: []int{}}, f.known(group)
}

func (f *fakeRequests) Asked(_ context.Context, group string, id uint64, wait time.Duration) (*api.Asked, error) {
	polls := f.polls.Add(1)
	if f.busy && wait > 0 {
		return nil, api.Mark(api.ErrBusy, "64 calls wait for requests on this node, and there can be no more")
	}
	if f.applyIn > 0 && polls >= f.applyIn {
		return &api.Asked{ID: id, Group: group, Partitions: 8, Applied: 8, Waiting: []int{}}, f.known(group)
	}
	return &api.Asked{ID: id, Group: group, Partitions: 8, Applied: 8 - len(f.waiting),
		Waiting: append([]int{}, f.waiting...), Releasing: f.releasing}, f.known(group)
}

func (f *fakeRequests) DeadLetters(_ context.Context, group string, q api.LetterFilter) (*api.LetterList, error) {
	out := &api.LetterList{Group: group, Letters: []api.Letter{}}
	if q.Seq > 0 {
		if l, ok := f.again[q.Seq]; ok {
			out.Letters = append(out.Letters, l)
		}
		return out, f.known(group)
	}
	const page = 2
	f.mostPage = max(f.mostPage, q.Limit)
	for _, l := range f.letters {
		switch {
		case q.Stored > 0 && l.Number != q.Stored, l.Number <= q.After, q.Kind != "" && l.Kind != q.Kind, q.Key != "" &&
			!means(q.Key, l.Key), q.Reason != "" && l.Reason != q.Reason, q.Partition != nil && l.Partition != *q.Partition:
			continue
		}
		if len(out.Letters) == page {
			out.Next = out.Letters[page-1].Number
			break
		}
		out.Letters = append(out.Letters, l)
	}
	if q.Stored > 0 && len(out.Letters) == 0 {
		return nil, api.Mark(api.ErrNotFound, fmt.Sprintf("there is no dead letter %d", q.Stored))
	}
	return out, f.known(group)
}

// means reports whether a name can mean a key of one token.
func means(name, key string) bool {
	keys, err := partitioner.Topic{Key: []int{1}}.KeysNamed(name)
	return err == nil && slices.Contains(keys, key)
}

func (f *fakeRequests) Requeue(_ context.Context, group string, o api.LetterOrder) (*api.LettersDone, error) {
	done := &api.LettersDone{Group: group, Done: []uint64{}, Failed: []api.LetterFailure{}}
	for _, n := range o.Numbers {
		if n == 13 {
			done.Failed = append(done.Failed, api.LetterFailure{Number: n, Error: "it has been requeued 3 times"})
			continue
		}
		done.Done = append(done.Done, n)
	}
	f.ordered = append(f.ordered, done.Done...)
	return done, f.known(group)
}

func (f *fakeRequests) Drop(ctx context.Context, group string, o api.LetterOrder) (*api.LettersDone, error) {
	return f.Requeue(ctx, group, o)
}

func requestsAgent(t *testing.T, n int) (*fakeRequests, string) {
	t.Helper()
	f := &fakeRequests{fakeMembers: fakeMembers{fakeSource: fakeSource{status: healthy()}}, letters: someLetters(n)}
	return f, agent(t, f)
}

func TestSeekSaysWhatItWouldDoAndNeedsAYes(t *testing.T) {
	f, addr := requestsAgent(t, 0)
	run(t, "seek", "billing", "--to", "-2h", "--dry-run", "--addr", addr).want(t, exitOK, "8 partitions",
		"after message 41", "12 messages again", "0 messages skipped")
	run(t, "seek", "billing", "--to", "-7d", "--dry-run", "--addr", addr).want(t, exitOK, "after message 41")
	run(t, "seek", "billing", "--to", "-2h", "--addr", addr).want(t, exitUsage, "--yes")
	run(t, "seek", "billing", "--addr", addr).want(t, exitUsage, "--to")
	if len(f.asks) > 0 {
		t.Fatalf("asked %+v", f.asks)
	}
	run(t, "seek", "billing", "--to", "earliest", "--partition", "0-2,5", "--yes", "--addr", addr).
		want(t, exitOK, "after message 41")
	if a := f.asks[0]; a.Kind != "seek" || a.To != "earliest" || !slices.Equal(a.Partitions, []int{0, 1, 2, 5}) {
		t.Errorf("asked %+v", a)
	}
}

func TestRequestThatNobodyAppliesTimesOutAndSaysWhere(t *testing.T) {
	f, addr := requestsAgent(t, 0)
	f.waiting = []int{3, 5}
	run(t, "pause", "billing", "--reason", "lunch", "--wait", "50ms", "--addr", addr).want(t, exitTimeout,
		"request 7 is pending", "2 partitions (3, 5)")
	run(t, "pause", "billing", "--reason", "lunch", "--wait", "0s", "--addr", addr).want(t, exitOK)
}

// TestCommandIsFollowedWhereTooManyCallsWait: it asks without waiting, and so it learns that the request is applied, or
// where not.
func TestCommandIsFollowedWhereTooManyCallsWait(t *testing.T) {
	f, addr := requestsAgent(t, 0)
	f.busy, f.waiting, f.applyIn = true, []int{3, 5}, 4
	run(t, "pause", "billing", "--reason", "lunch", "--wait", "20s", "--addr", addr).want(t, exitOK, "paused 8 partitions")
	f.applyIn = 0
	run(t, "pause", "billing", "--reason", "lunch", "--wait", "500ms", "--addr", addr).
		want(t, exitTimeout, "2 partitions (3, 5)")
}

func TestPauseWantsAReasonAndAGroupThatExists(t *testing.T) {
	_, addr := requestsAgent(t, 0)
	run(t, "pause", "billing", "--addr", addr).want(t, exitUsage, "--reason")
	run(t, "resume", "nobody", "--addr", addr).want(t, exitNotFound, `no group "nobody"`, "group list")
	for _, bad := range []string{"x", "3-1", "-2", "1,,2"} {
		run(t, "resume", "billing", "--partition", bad, "--addr", addr).want(t, exitUsage, "--partition")
	}
}

func TestOrdersNeedASelectorAndAYes(t *testing.T) {
	f, addr := requestsAgent(t, 5)
	for _, verb := range []string{"requeue", "drop"} {
		run(t, "dlq", verb, "billing", "--addr", addr).want(t, exitUsage, "nothing selected to "+verb)
		run(t, "dlq", verb, "billing", "--all", "--addr", addr).want(t, exitUsage, "--yes")
		run(t, "dlq", verb, "billing", "--all", "--dry-run", "--addr", addr).want(t, exitOK, "5 dead letters chosen",
			"orders/4/104", "c 5")
		run(t, "dlq", verb, "billing", "2", "4", "--dry-run", "--addr", addr).want(t, exitOK, "2 dead letters chosen",
			"orders/4/104", "c 2")
		run(t, "dlq", verb, "billing", "2", "99", "--dry-run", "--addr", addr).want(t, exitNotFound, "no dead letter 99")
		run(t, "dlq", verb, "billing", "twelve", "--addr", addr).want(t, exitUsage, `"twelve"`)
	}
	run(t, "dlq", "release", "billing", "--addr", addr).want(t, exitUsage, "--key")
	run(t, "dlq", "release", "billing", "--all", "--addr", addr).want(t, exitUsage, "--yes")
	if len(f.ordered)+len(f.asks) > 0 {
		t.Errorf("ordered %v, asked %v", f.ordered, f.asks)
	}
}

func TestBulkOrdersGoThroughEveryPageAndReportWhatIsLeft(t *testing.T) {
	f, addr := requestsAgent(t, 250)
	r := run(t, "dlq", "requeue", "billing", "--all", "--yes", "--addr", addr)
	r.want(t, exitPartly, "250 dead letters chosen", "requeued 249 dead letters", "left 13: it has been requeued 3 times")
	if len(f.ordered) != 249 {
		t.Errorf("%d ordered", len(f.ordered))
	}
	f.ordered = nil
	run(t, "dlq", "drop", "billing", "--key", "c 4", "--yes", "--addr", addr).want(t, exitOK, "dropped 1 dead letter")
	if !slices.Equal(f.ordered, []uint64{4}) {
		t.Errorf("ordered %v", f.ordered)
	}
	run(t, "dlq", "drop", "billing", "--key", "nobody", "--yes", "--addr", addr).want(t, exitNotFound,
		`no dead letter of key "nobody"`, "dlq list billing")
	run(t, "dlq", "requeue", "billing", "13", "--yes", "--addr", addr).want(t, exitFailed, "requeued 0")
}

// TestDryRunListsWhatItWouldTouch: for people so many, in JSON all, without what is in them.
func TestDryRunListsWhatItWouldTouch(t *testing.T) {
	f, addr := requestsAgent(t, 250)
	f.letters[0].Requeues = 3
	r := run(t, "dlq", "requeue", "billing", "--all", "--dry-run", "--addr", addr)
	r.want(t, exitOK, "250 dead letters chosen", "c 100", "… and 150 more",
		"84 of these would be left: parked, or requeued 3 times before")
	if strings.Contains(r.out, "c 101") {
		t.Error("more than so many are listed")
	}
	for _, args := range [][]string{{"--all"}, {"--reason", "max_attempts"}, {"7", "9"}} {
		r := run(t, append([]string{"dlq", "drop", "billing", "--dry-run", "-o", "json", "--addr", addr}, args...)...)
		r.want(t, exitOK)
		var body struct {
			Chosen  []uint64
			Letters []api.Letter
		}
		if err := json.Unmarshal([]byte(r.out), &body); err != nil || len(body.Letters) != len(body.Chosen) ||
			len(body.Letters) < 2 {
			t.Fatalf("%v in %.300s", err, r.out)
		}
		for i, l := range body.Letters {
			if l.Number != body.Chosen[i] || l.ID == "" || l.Key == "" {
				t.Errorf("letter %d: %+v", i, l)
			}
		}
	}
	if len(f.ordered) > 0 {
		t.Errorf("ordered %v", f.ordered)
	}
}

func TestResumeOfWhatGoesOnSaysSo(t *testing.T) {
	f, addr := requestsAgent(t, 0)
	for n, want := range []string{"nothing changed: of 8 partitions of group billing none is paused",
		"resumed 1 partition"} {
		f.changed = &n
		run(t, "resume", "billing", "--addr", addr).want(t, exitOK, want)
		run(t, "resume", "billing", "--dry-run", "--addr", addr).want(t, exitOK,
			strings.Replace(want, "resumed", "would resume", 1))
	}
}

// TestReleaseSaysWhatCameOfIt: each message handled, failed again with its error, or still waiting and for what.
func TestReleaseSaysWhatCameOfIt(t *testing.T) {
	f, addr := requestsAgent(t, 9) // 3, 6 and 9 are parked.
	f.again = map[uint64]api.Letter{106: {Number: 41, Kind: "dead", Error: "no such customer"}}
	run(t, "dlq", "release", "billing", "--all", "--yes", "--addr", addr).want(t, exitPartly,
		"outcome: 2 handled, 1 failed again", "message 106 of key c 6 in partition 6: dead letter 41: no such customer",
		"dlq list billing")
	f.again[103], f.again[109] = f.letters[2], f.letters[8]
	f.status.Groups[0].Partitions = []api.Partition{{Partition: 3, State: "held",
		Release: "released message 103 failed 8 times: still down"}}
	run(t, "dlq", "release", "billing", "--all", "--yes", "--addr", addr).want(t, exitFailed, "outcome: 3 failed again",
		"parked as dead letter 3: released message 103 failed 8 times: still down")
	f.releasing = []int{6}
	f.status.Groups[0].Partitions = []api.Partition{{Partition: 6, State: "unavailable", Error: "no database"}}
	run(t, "dlq", "release", "billing", "--key", "c 6", "--wait", "400ms", "--addr", addr).want(t, exitTimeout,
		"outcome: 1 still waiting", "partition 6: waiting: partition is unavailable: no database",
		"1 message is not handled yet")
	run(t, "dlq", "release", "billing", "--key", "c 6", "--wait", "0s", "--addr", addr).want(t, exitOK, "releasing")
	r := run(t, "dlq", "release", "billing", "--key", "c 3", "-o", "json", "--addr", addr)
	r.want(t, exitFailed)
	if !strings.Contains(r.out, `"handled": 0`) || !strings.Contains(r.out, "boom") {
		t.Errorf("got %s", r.out)
	}
}

func TestReleaseFindsTheKeysPartitions(t *testing.T) {
	f, addr := requestsAgent(t, 9)
	run(t, "dlq", "release", "billing", "--key", "c 3", "--key", "c%206", "--addr", addr).want(t, exitOK,
		"releasing in 8 partitions", "outcome: 2 handled")
	a := f.asks[0]
	slices.Sort(a.Partitions)
	if a.Kind != "release" || !slices.Equal(a.Keys, []string{"%=c%203", "%=c%206"}) ||
		!slices.Equal(a.Partitions, []int{3, 6}) {
		t.Errorf("asked %+v", a)
	}
	run(t, "dlq", "release", "billing", "--key", "c 1", "--addr", addr).want(t, exitNotFound, `key "c 1"`, "--kind parked")
}

// TestListedKeysAreToldApartAndPastedBack: the next command shown for a parked key is one that a shell can run.
func TestListedKeysAreToldApartAndPastedBack(t *testing.T) {
	f, addr := requestsAgent(t, 5)
	for i, key := range []string{"Z%C3%BCrich", "Zürich", "50%", "joe@example%2Ecom", "a%20b"} {
		f.letters[i].Key = key
	}
	run(t, "dlq", "list", "billing", "--addr", addr).want(t, exitOK, "%=Z%C3%BCrich", "%=Zürich", "%=50%",
		"joe@example.com", "a b")
	for name, number := range map[string]uint64{"%=Z%C3%BCrich": 1, "%=Zürich": 2, "%=50%": 3, "50%": 3,
		"joe@example.com": 4, "a b": 5, "a%20b": 5} {
		f.ordered = nil
		run(t, "dlq", "drop", "billing", "--key", name, "--yes", "--addr", addr).want(t, exitOK)
		if !slices.Equal(f.ordered, []uint64{number}) {
			t.Errorf("--key %s dropped %v, want %d", name, f.ordered, number)
		}
	}
	run(t, "pub", "orders", "--key", "%=50%", "x", "--addr", addr).want(t, exitUsage, "leave %= out")
}

func TestDeadLettersAreListedShownAndExported(t *testing.T) {
	_, addr := requestsAgent(t, 7)
	run(t, "dlq", "list", "billing", "--addr", addr).want(t, exitOK, "c 7", "orders/7/107", "parked", "max_attempts",
		"boom")
	run(t, "dlq", "list", "billing", "--limit", "2", "--addr", addr).want(t, exitOK, "there are more")
	run(t, "dlq", "list", "billing", "--reason", "tired", "--addr", addr).want(t, exitUsage,
		"rejected, max_attempts or parked")
	run(t, "dlq", "list", "billing", "--since", "noon", "--addr", addr).want(t, exitUsage, "--since")
	run(t, "dlq", "show", "billing", "3", "--addr", addr).want(t, exitOK, "orders/3/103", `{"n":3}`, "c 3")
	run(t, "dlq", "show", "billing", "99", "--addr", addr).want(t, exitNotFound, "no dead letter 99")
	r := run(t, "dlq", "export", "billing", "--addr", addr)
	r.want(t, exitOK, "exported 7 dead letters")
	if parked := run(t, "dlq", "export", "billing", "--kind", "parked", "--addr", addr).out; parked == "" ||
		strings.Contains(parked, `"kind":"dead"`) {
		t.Errorf("parked ones: %s", parked)
	}
	for i, line := range strings.Split(strings.TrimSpace(r.out), "\n") {
		var l api.Letter
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Number != uint64(i+1) || l.Data == nil {
			t.Errorf("line %d: %s", i, line)
		}
	}
}

func TestValuesThatChooseNothingOrTooMuchAreRefused(t *testing.T) {
	f, addr := requestsAgent(t, 5)
	for _, bad := range [][]string{
		{"dlq", "list", "billing", "--limit", "0"}, {"dlq", "list", "billing", "--limit", "-1"},
		{"dlq", "list", "billing", "--limit", "ten"},
		{"dlq", "list", "billing", "--partition", "-1"}, {"dlq", "export", "billing", "--partition", "-3"},
		{"dlq", "list", "billing", "--kind", ""},
		{"dlq", "drop", "billing", "--partition", "3", "--key", "", "--yes"},
		{"dlq", "drop", "billing", "--all", "--reason", "", "--yes"},
		{"dlq", "drop", "billing", "--all", "--since", "", "--yes"}, {"dlq", "requeue", "billing", "--all", "--max-requeues",
			"-1", "--yes"},
		{"dlq", "drop", "billing", "3", "--key", "c 4", "--yes"}, {"dlq", "drop", "billing", "3", "--all", "--yes"},
		{"resume", "billing", "--wait", "-1s"}, {"resume", "billing", "--partition", ""},
		{"seek", "billing", "--to", "earliest", "--partition", "", "--yes"},
		{"tap", "orders", "--last", "-1"}, {"tap", "orders", "--partition", "-1"}, {"tap", "orders", "--since", "yesterday"},
		{"pub", "orders", "x", "--key", "k", "--rate", "-1"},
	} {
		run(t, append(bad, "--addr", addr)...).want(t, exitUsage, "--")
	}
	if len(f.ordered)+len(f.asks) > 0 {
		t.Errorf("ordered %v, asked %v", f.ordered, f.asks)
	}
	run(t, "dlq", "list", "billing", "--limit", "1", "--since", "7d", "--partition", "1", "--addr", addr).
		want(t, exitOK, "orders/1/101")
}
