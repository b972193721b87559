package server

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func set(names ...string) map[string]bool {
	m := make(map[string]bool)
	for _, n := range names {
		m[n] = true
	}
	return m
}

func TestReasonsNameWhomWeWaitFor(t *testing.T) {
	peers := []Peer{{"n1", "a:1"}, {"n2", "b:2"}, {"n3", "c:3"}}
	all := set("n2", "n3")
	for name, c := range map[string]struct {
		view view
		want string // "" is ready
	}{
		"first start, alone": {view{routes: set()}, "waiting for n2 (b:2), n3 (c:3): the first start"},
		"first start, one missing": {view{routes: set("n3"), leader: "n3", member: true},
			"waiting for n2 (b:2): the first start"},
		"first start, no leader":    {view{routes: all}, "no meta leader yet"},
		"first start, not yet in":   {view{routes: all, leader: "n2", member: true, meta: set("n2")}, "n3 (c:3) to join"},
		"first start, complete":     {view{routes: all, leader: "n2", member: true, meta: all}, ""},
		"joins, one is dead":        {view{routes: set("n3"), leader: "n3", member: true, voters: 4}, ""},
		"joins, not taken in":       {view{routes: set("n3"), leader: "n3", voters: 4}, "waiting for n2 (b:2)"},
		"later, majority":           {view{formed: true, routes: set("n3"), leader: "n3", member: true}, ""},
		"later, no majority":        {view{formed: true, routes: set(), complaint: "x"}, "a majority of 3"},
		"later, election":           {view{formed: true, routes: all, complaint: "x"}, "no meta leader"},
		"later, behind":             {view{formed: true, routes: all, leader: "n2", complaint: "not current"}, "not current"},
		"later, removed":            {view{formed: true, leader: "n2", meta: all}, "not a member"},
		"refusal explains":          {view{routes: set("n2"), refusal: "wrong secret"}, "wrong secret"},
		"refusal alone is no cause": {view{formed: true, leader: "n2", member: true, refusal: "wrong secret"}, ""},
	} {
		got := strings.Join(c.view.reasons("n1", peers), "; ")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: reasons are %q, want %q", name, got, c.want)
		}
	}
}

func TestVerdictNeitherHurriesNorFlutters(t *testing.T) {
	now := time.Now()
	v := verdict{grace: time.Second}
	look := func(reasons ...string) bool { v.add(reasons, now); return v.ready }
	for i, reasons := range [][]string{nil, nil, {"x"}, nil, nil} {
		if look(reasons...) {
			t.Errorf("ready after look %d, before three good ones in a row", i+1)
		}
	}
	if !look() {
		t.Error("not ready after three good looks in a row")
	}
	if !look("x") {
		t.Error("one bad look ended it")
	}
	now = now.Add(900 * time.Millisecond)
	if !look("x") || !look() {
		t.Error("a bad state shorter than the grace ended it")
	}
	look("y")
	now = now.Add(time.Second)
	if look("y") || !slices.Equal(v.reasons, []string{"y"}) {
		t.Errorf("ready = %v, reasons = %v after a whole grace of bad looks", v.ready, v.reasons)
	}
	if look() || len(v.reasons) == 0 {
		t.Error("ready again at the first good look, or no reason given")
	}
}

func TestNodeNameIsWhatStandsBeforeTheRandomId(t *testing.T) {
	for server, want := range map[string]string{"n1-ab12": "n1", "line-4-ab12": "line-4", "n1": "n1", "": ""} {
		if got := nodeName(server); got != want {
			t.Errorf("node of %q = %q, want %q", server, got, want)
		}
	}
}
