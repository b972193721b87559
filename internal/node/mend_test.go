package node

import (
	"slices"
	"strings"
	"testing"

	"leasehold/internal/api"
	"leasehold/server/replicas"
)

func TestACopyIsGivenUpOnlyWhenAllOthersSayThatTheirsAreWhole(t *testing.T) {
	whole := func(name string) copyAnswer { return copyAnswer{Server: name, Whole: true} }
	for _, c := range []struct {
		name   string
		others []string
		said   []copyAnswer
		want   []string // What it waits for, in part.
	}{
		{"both whole", []string{"n2-a", "n3-b"}, []copyAnswer{whole("n3-b"), whole("n2-a")}, nil},
		{"one is silent", []string{"n2-a", "n3-b"}, []copyAnswer{whole("n2-a")}, []string{"n3-b to say"}},
		{"one is damaged too", []string{"n2-a", "n3-b"}, []copyAnswer{whole("n2-a"), {Server: "n3-b", Why: "a hole"}}, []string{"a hole"}},
		{"another identity of that node", []string{"n2-a", "n3-b"}, []copyAnswer{whole("n2-a"), whole("n3-c")}, []string{"n3-b to say"}},
		{"a node without a copy does not count", []string{"n2-a"}, []copyAnswer{whole("n2-a"), whole("n3-b")}, []string{"2 other nodes"}},
		{"of five copies all", []string{"n2-a", "n3-b", "n4-c"}, []copyAnswer{whole("n2-a"), whole("n3-b")}, []string{"n4-c to say"}},
		{"nobody", nil, nil, []string{"2 other nodes"}},
	} {
		got := notWhole(c.others, c.said)
		if len(got) != len(c.want) {
			t.Errorf("%s: waits for %q, want %q", c.name, got, c.want)
			continue
		}
		for i, part := range c.want {
			if !strings.Contains(got[i], part) {
				t.Errorf("%s: waits for %q, want %q", c.name, got, c.want)
			}
		}
	}
}

func TestLanesStartOnlyOnCopiesWithoutAHole(t *testing.T) {
	var h copyHoles
	if h.of("orders") != "" {
		t.Error("a hole before the first look")
	}
	streams := map[string]replicas.State{"orders": {Messages: 1, First: 1, Last: 2}, "audit": {Messages: 2, First: 1, Last: 2}, "KV_leasehold": {Messages: 1, First: 1, Last: 9}}
	copies := topicCopies(streams, map[string]*topic{"orders": nil, "audit": nil, "elsewhere": nil})
	if !h.set(copies) || h.of("orders") == "" || h.of("audit") != "" || h.of("elsewhere") != "" || h.of("KV_leasehold") != "" {
		t.Errorf("holes %v", h.holes)
	}
	if h.set(nil) || h.of("orders") != "" {
		t.Error("a hole is remembered that is not there any more")
	}
}

func TestDamageIsShownWithItsNodeAndWhatItWaitsFor(t *testing.T) {
	nodes := []api.Node{{Name: "n1"}, {Name: "n2"}}
	records := map[string]damageRecord{
		"n2":   {Topics: map[string]string{"orders": "a hole", "audit": "begins at 5"}, Waits: []string{"n3-b to say that its copy is whole"}},
		"n1":   {},
		"gone": {Topics: map[string]string{"orders": "a hole"}},
	}
	got := damageWarnings(records, nodes)
	if len(got) != 2 || !containsEach(got[0], "node n2", "audit", "begins at 5", "n3-b") || !containsEach(got[1], "orders", "a hole") {
		t.Errorf("warnings %q", got)
	}
	if len(nodes[0].Damaged) != 0 || !slices.Equal(nodes[1].Damaged, []string{"audit", "orders"}) {
		t.Errorf("nodes %+v", nodes)
	}
}

func containsEach(text string, parts ...string) bool {
	return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(text, p) })
}
