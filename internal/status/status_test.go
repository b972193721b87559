package status

import (
	"slices"
	"strings"
	"testing"
	"time"

	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/config"
	"leasehold/internal/peers"
	"leasehold/internal/registry"
	"leasehold/server"
)

// readerOf is the reader of a node of which only the name matters.
func readerOf(node string) *Reader {
	c := &config.Config{}
	c.Node.Name = node
	return NewReader(NewView(Options{Config: c}))
}

// A lane counts what its node's replica of the topic has. If that replica is behind, it may not say that nothing is
// left.
func TestLagOfAReplicaThatIsBehindIsUnknown(t *testing.T) {
	zero, two := int64(0), int64(2)
	cases := map[string]struct {
		lag    *int64
		passed uint64
		epoch  uint64
		want   *int64
	}{
		"it has passed all":           {&zero, 100, 4, &zero},
		"it has passed more":          {&zero, 101, 4, &zero},
		"its replica is behind":       {&zero, 99, 4, nil},
		"it is behind, and says so":   {&two, 99, 4, &two},
		"it does not know what it is": {&zero, 0, 4, &zero},
		"it speaks of another epoch":  {&zero, 99, 3, &zero},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			const epoch = 4
			lanes := []peers.Lane{{Partition: 3, Epoch: c.epoch, Lag: c.lag, Passed: c.passed}}
			if c.epoch != epoch { // The lane of this epoch is there, too.
				lanes = append(lanes, peers.Lane{Partition: 3, Epoch: epoch, Lag: c.lag, Passed: 100})
			}
			part := partitionStatus(3, lease.Lease{Owner: "n1", Epoch: epoch}, lanes, 100)
			group := lagOf([]api.Partition{{Lag: &zero}, part})
			if (part.Lag == nil) != (c.want == nil) || (group == nil) != (c.want == nil) {
				t.Errorf("lag %v of the partition, %v of the group", part.Lag, group)
			}
			if c.want != nil && part.Lag != nil && (*part.Lag != *c.want || *group != *c.want) {
				t.Errorf("lag %d of the partition, %d of the group", *part.Lag, *group)
			}
		})
	}
}

func TestWarningsOfDeadLettersCountThemAndNameTheCommand(t *testing.T) {
	for _, c := range []struct {
		want string
		g    api.Group
	}{
		{"group g: 1 dead letter waits for an operator: `leasehold dlq list g`", api.Group{Name: "g", DeadLetters: 1}},
		{"group g: 1,200 dead letters wait for an operator: `leasehold dlq list g`",
			api.Group{Name: "g", DeadLetters: 1200}},
		{"group g: 1 parked key waits for `leasehold dlq release g --all`; " +
			"list them with `leasehold dlq list g --kind parked`",
			api.Group{Name: "g", DeadLetters: 3, Partitions: []api.Partition{{Parked: 1}}}},
		{"group g: 3 parked keys wait for `leasehold dlq release g --all`; " +
			"list them with `leasehold dlq list g --kind parked`",
			api.Group{Name: "g", DeadLetters: 3, Partitions: []api.Partition{{Parked: 1}, {Parked: 2}}}},
		{"", api.Group{Name: "g"}},
	} {
		if got := strings.Join(deadLetterWarnings([]api.Group{c.g}), "\n"); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestStatesOfNodesThatDoNotAnswer(t *testing.T) {
	at := time.Date(2026, 11, 29, 13, 5, 7, 0, time.UTC)
	r := readerOf("n1")
	q := server.Quorum{Silent: []server.SilentPeer{{Node: "n2", Since: at, Heard: true}, {Node: "n3", Since: at},
		{Node: "n4", Since: at, Replaced: true}}}
	for _, c := range []struct {
		working             bool
		node, session, want string
		lastSeen            string
	}{
		{true, "n1", "live", api.NodeLive, ""},
		{true, "n2", "live", api.NodeUnreachable, "2026-11-29T13:05:07Z"},
		{true, "n3", "live", api.NodeUnreachable, ""},
		{true, "n4", "live", api.NodeLive, ""},
		{true, "n2", "buried", "buried", "2026-11-29T13:05:07Z"},
		{true, "n3", "absent", "absent", ""},
		{false, "n1", "live", api.NodeWaiting, ""},
		{false, "n2", "live", api.NodeUnreachable, "2026-11-29T13:05:07Z"},
		{false, "n3", "absent", api.NodeUnreachable, ""},
		{false, "n5", "live", api.NodeWaiting, ""},
		{false, "n5", "ended", "ended", ""},
	} {
		if state, seen := r.reach(q, c.working).state(c.node, c.session); state != c.want || seen != c.lastSeen {
			t.Errorf("%+v: %s, last seen %q", c, state, seen)
		}
	}
}

func TestANodeWithAnOldViewSaysSo(t *testing.T) {
	r := readerOf("n1")
	own := func(state lease.State) []lease.Session { return []lease.Session{{Node: "n1", Boot: 3, State: state}} }
	for _, c := range []struct {
		view   lease.View
		quorum bool
		want   string
	}{
		{lease.View{Boot: 3, Live: true, Sessions: own(lease.Live)}, true, ""},
		{lease.View{Boot: 3, Sessions: own(lease.Dead), State: "x"}, true, "node n1 was declared dead by the others"},
		{lease.View{Boot: 4, Sessions: own(lease.Dead), State: "publishing the session"}, true,
			"node n1 is not live (publishing the session)"},
		{lease.View{Boot: 3, Live: true, Sessions: own(lease.Live)}, false, "there is no quorum"},
	} {
		if got := r.staleness(c.view, c.quorum); (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.view, got, c.want)
		}
	}
}

func TestDiskWarningsNameTheNodeAndTheCure(t *testing.T) {
	short := map[string]peers.Report{"n2": {Disk: peers.Disk{Short: true, Free: 100 << 20, MinFree: 256 << 20}}}
	slow := map[string]peers.Report{"n3": {Disk: peers.Disk{SlowFsync: true}}}
	held := []api.Topic{{Name: "orders", Held: true}, {Name: "other"}}
	for _, c := range []struct {
		name    string
		timing  string
		reports map[string]peers.Report
		topics  []api.Topic
		want    string // All of the only warning's words that matter, "" for none.
	}{
		{"fine", "lan", map[string]peers.Report{"n1": {}}, nil, ""},
		{"short", "lan", short, held, "node n2 100 MiB 256 MiB"},
		{"slow", "lan", slow, nil, "node n3 wan"},
		{"slow where it does not matter", "wan", slow, nil, ""},
		{"on its own", "", slow, nil, ""},
		{"held by nobody known", "lan", map[string]peers.Report{"n1": {}}, held, "orders refused"},
	} {
		got := diskWarnings(c.timing, c.reports, c.topics)
		if c.want == "" && len(got) > 0 || c.want != "" && len(got) != 1 {
			t.Errorf("%s: %q", c.name, got)
			continue
		}
		for _, word := range strings.Fields(c.want) {
			if !strings.Contains(got[0], word) {
				t.Errorf("%s: %q does not say %q", c.name, got[0], word)
			}
		}
	}
}

func TestAStuckLogIsAWarning(t *testing.T) {
	got := logWarnings(map[string]peers.Report{"n2": {LogDropped: 7, LogStuck: true}, "n1": {LogDropped: 3}})
	if len(got) != 1 || !strings.Contains(got[0], "node n2 cannot write its log, 7 lines dropped") {
		t.Errorf("%q", got)
	}
}

func TestCorruptionIsShownWithItsNodeAndWhatItWaitsFor(t *testing.T) {
	nodes := []api.Node{{Name: "n1"}, {Name: "n2"}}
	records := map[string]registry.Corruption{
		"n2": {Topics: map[string]string{"orders": "a hole", "audit": "begins at 5"},
			WaitingFor: []string{"n3-b to reply that its replica is whole"}},
		"n1":   {},
		"gone": {Topics: map[string]string{"orders": "a hole"}},
	}
	got := corruptionWarnings(records, nodes)
	if len(got) != 2 || !containsEach(got[0], "node n2", "audit", "begins at 5", "n3-b") ||
		!containsEach(got[1], "orders", "a hole") {
		t.Errorf("warnings %q", got)
	}
	if len(nodes[0].Damaged) != 0 || !slices.Equal(nodes[1].Damaged, []string{"audit", "orders"}) {
		t.Errorf("nodes %+v", nodes)
	}
}

func containsEach(text string, parts ...string) bool {
	return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(text, p) })
}
