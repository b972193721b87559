package repair

import (
	"strings"
	"testing"

	"leasehold/server/replicas"
)

func TestAReplicaIsGivenUpOnlyWhenAllOthersReplyThatTheirsAreWhole(t *testing.T) {
	whole := func(name string) reply { return reply{Server: name, Whole: true} }
	for _, c := range []struct {
		name    string
		others  []string
		replies []reply
		want    []string // What it waits for, in part.
	}{
		{"both whole", []string{"n2-a", "n3-b"}, []reply{whole("n3-b"), whole("n2-a")}, nil},
		{"one is silent", []string{"n2-a", "n3-b"}, []reply{whole("n2-a")}, []string{"n3-b to reply"}},
		{"one is corrupt too", []string{"n2-a", "n3-b"}, []reply{whole("n2-a"), {Server: "n3-b", Why: "a hole"}},
			[]string{"a hole"}},
		{"another identity of that node", []string{"n2-a", "n3-b"}, []reply{whole("n2-a"), whole("n3-c")},
			[]string{"n3-b to reply"}},
		{"a node without a replica does not count", []string{"n2-a"}, []reply{whole("n2-a"), whole("n3-b")},
			[]string{"2 other nodes"}},
		{"of five replicas all", []string{"n2-a", "n3-b", "n4-c"}, []reply{whole("n2-a"), whole("n3-b")},
			[]string{"n4-c to reply"}},
		{"nobody", nil, nil, []string{"2 other nodes"}},
	} {
		got := notWhole(c.others, c.replies)
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

func TestLanesStartOnlyOnReplicasWithoutAHole(t *testing.T) {
	r := &Repair{Options: Options{Topics: []string{"orders", "audit", "elsewhere"}}}
	if r.Hole("orders") != "" {
		t.Error("a hole before the first check")
	}
	streams := map[string]replicas.State{"orders": {Messages: 1, First: 1, Last: 2},
		"audit": {Messages: 2, First: 1, Last: 2}, "KV_leasehold": {Messages: 1, First: 1, Last: 9}}
	if !r.setHoles(streams) || r.Hole("orders") == "" || r.Hole("audit") != "" || r.Hole("elsewhere") != "" ||
		r.Hole("KV_leasehold") != "" {
		t.Errorf("holes %v", r.holes)
	}
	if r.setHoles(nil) || r.Hole("orders") != "" {
		t.Error("a hole is remembered that is not there any more")
	}
}
