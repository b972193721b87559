package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"leasehold/internal/api"
)

// explained is an agent whose topic has messages of the keys a and b in turn, and a group "billing" that has finished
// those of a partition up to done.
func explained(done uint64, state string, attempt int) *fakeMessages {
	f := ordersOf("a", "b", "a", "b", "a", "b", "a", "b")
	parts := []api.Partition{{Partition: 0}, {Partition: 1}}
	parts[f.stored[0].Partition] = api.Partition{
		Partition: f.stored[0].Partition, Owner: "n2", Epoch: 7, Done: done, Lag: lag(3), State: state, Attempt: attempt,
		Error:   "no database",
		RetryAt: "2026-01-02T03:04:05Z",
	}
	f.status.Groups = []api.Group{{Name: "billing", Topic: "orders", Partitions: parts},
		{Name: "other", Topic: "others", Partitions: parts}}
	return f
}

func explainJSON(t *testing.T, addr string, args ...string) api.Explanation {
	t.Helper()
	r := run(t, append([]string{"explain", "orders", "--addr", addr, "-o", "json"}, args...)...)
	r.want(t, exitOK)
	var e api.Explanation
	if err := json.Unmarshal([]byte(r.out), &e); err != nil {
		t.Fatalf("%v in %s", err, r.out)
	}
	return e
}

func TestExplainFindsAMessageForEachGroup(t *testing.T) {
	for _, c := range []struct {
		what    string
		done    uint64
		state   string
		attempt int
		place   string
		note    string
	}{
		{"1", 1, "held", 0, api.PlaceDone, "done"},
		{"3", 1, "held", 0, api.PlaceHandling, "being handled"},
		{"3", 1, "retrying", 2, api.PlaceHeldUp, "next; the partition is retrying after 2 failed calls"},
		{"3", 1, "unavailable", 0, api.PlaceHeldUp, "next; the partition is unavailable, tried again at "},
		{"5", 1, "held", 0, api.PlaceWaiting, "waiting behind 1 message"},
		{"7", 1, "held", 0, api.PlaceWaiting, "waiting behind 2 messages"},
	} {
		e := explainJSON(t, agent(t, explained(c.done, c.state, c.attempt)), c.what)
		if len(e.Groups) != 1 || e.Groups[0].Place != c.place || !strings.Contains(e.Groups[0].Note, c.note) ||
			e.Key != "a" || e.Groups[0].Owner != "n2" || e.Groups[0].Epoch != 7 || e.Message == nil {
			t.Errorf("%s after %d, %s: got %+v", c.what, c.done, c.state, e)
		}
	}
}

func TestExplainTellsKeysSequencesAndIDsApart(t *testing.T) {
	f := explained(1, "held", 0)
	f.stored = append(f.stored, api.Message{Key: "50%"})
	addr := agent(t, f)
	p := f.stored[0].Partition
	if e := explainJSON(t, addr, "a"); e.Key != "a" || *e.Partition != p || e.Message != nil || e.Groups[0].Place != "" {
		t.Errorf("key: %+v", e)
	}
	if e := explainJSON(t, addr, "50%"); e.Key != "50%" || !e.Stored {
		t.Errorf("a key that was published unencoded: %+v", e)
	}
	if e := explainJSON(t, addr, "a b"); e.Key != "a%20b" || e.Stored {
		t.Errorf("a key of which nothing is stored: %+v", e)
	}
	if e := explainJSON(t, addr, "1", "--key"); e.Key != "1" || e.Message != nil {
		t.Errorf("a number that is a key: %+v", e)
	}
	if e := explainJSON(t, addr, "orders/x/1"); e.Key != "orders/x/1" {
		t.Errorf("what is no id: %+v", e)
	}
	if e := explainJSON(t, addr, f.stored[2].ID); e.Message.Seq != 3 {
		t.Errorf("id: %+v", e)
	}
	if e := explainJSON(t, addr, "99"); e.NotStored == "" || e.Partition != nil || len(e.Groups) != 0 {
		t.Errorf("a sequence that is not stored: %+v", e)
	}
	if e := explainJSON(t, addr, "orders/1/99"); e.NotStored == "" || *e.Partition != 1 || len(e.Groups) != 1 {
		t.Errorf("an id that is not stored: %+v", e)
	}
	run(t, "explain", "orders", "orders/7/1", "--addr", addr).want(t, exitUsage, "partitions 0 to 1")
	moved := strings.Replace(f.stored[0].ID, "/"+f.stored[0].ID[7:8]+"/", "/"+f.stored[1].ID[7:8]+"/", 1)
	run(t, "explain", "orders", moved, "--addr", addr).want(t, exitNotFound, f.stored[0].ID)
	run(t, "explain", "orders", strings.Repeat("x", 600), "--addr", addr).want(t, exitUsage, "too long")
	run(t, "explain", "nope", "a", "--addr", addr).want(t, exitNotFound, "nope")
}

func TestExplainForPeople(t *testing.T) {
	f := explained(1, "retrying", 2)
	addr := agent(t, f)
	run(t, "explain", "orders", "3", "--addr", addr).want(t, exitOK, "message "+f.stored[2].ID+" of key a, stored ",
		"for a", "billing", "n2", "retrying", "no database", "after 2 failed calls")
	run(t, "explain", "orders", "99", "--addr", addr).want(t, exitOK, "not stored yet")
	f.status.Groups = nil
	run(t, "explain", "orders", "a", "--addr", addr).want(t, exitOK, "key a is in partition", "no group")
}

func TestExplainAndTapSayForWhichGroupAMessageIs(t *testing.T) {
	f := explained(7, "held", 0)
	f.stored[0].Headers = map[string][]string{"Leasehold-Only-Group": {"audit"}}
	f.stored[2].Headers = map[string][]string{"Leasehold-Only-Group": {"billing"}}
	addr := agent(t, f)
	if e := explainJSON(t, addr, "1"); e.Groups[0].Place != api.PlaceOtherGroup ||
		!strings.Contains(e.Groups[0].Note, "group audit alone") {
		t.Errorf("for another group: %+v", e.Groups[0])
	}
	if e := explainJSON(t, addr, "3"); e.Groups[0].Place != api.PlaceDone {
		t.Errorf("for the group itself: %+v", e.Groups[0])
	}
	run(t, "tap", "orders", "--addr", addr, "-o", "table").want(t, exitOK, "(for group audit alone)")
}

func TestExplainKnowsDeadLettersAndWhatWasNeverTheGroups(t *testing.T) {
	f := explained(3, "held", 0)
	p := f.stored[0].Partition
	f.letters = []api.Letter{{Number: 41, Partition: p, Key: "a", Seq: 1, Reason: "rejected"},
		{Number: 43, Partition: p, Key: "a", Seq: 3, Reason: "max_attempts"}}
	addr := agent(t, f)
	if e := explainJSON(t, addr, "3"); e.Groups[0].Place != api.PlaceDeadLetter ||
		!strings.Contains(e.Groups[0].Note, "dlq show billing 43") {
		t.Errorf("a dead letter: %+v", e.Groups[0])
	}
	f.letters = nil
	if e := explainJSON(t, addr, "1"); e.Groups[0].Place != api.PlaceDone {
		t.Errorf("a message that was handled: %+v", e.Groups[0])
	}
}
