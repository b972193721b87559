package node

import (
	"strings"
	"testing"
	"time"

	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/config"
	"leasehold/server"
)

func TestStatesOfNodesThatDoNotAnswer(t *testing.T) {
	at := time.Date(2026, 11, 29, 13, 5, 7, 0, time.UTC)
	n := &Node{Options: Options{Config: &config.Config{}}}
	n.Config.Node.Name = "n1"
	q := server.Quorum{Silent: []server.SilentPeer{{Node: "n2", Since: at, Heard: true}, {Node: "n3", Since: at}, {Node: "n4", Since: at, Replaced: true}}}
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
		if state, seen := n.reach(q, c.working).state(c.node, c.session); state != c.want || seen != c.lastSeen {
			t.Errorf("%+v: %s, last seen %q", c, state, seen)
		}
	}
}

func TestANodeWithAnOldViewSaysSo(t *testing.T) {
	n := &Node{Options: Options{Config: &config.Config{}}}
	n.Config.Node.Name = "n1"
	own := func(state lease.State) []lease.Session { return []lease.Session{{Node: "n1", Boot: 3, State: state}} }
	for _, c := range []struct {
		view   lease.View
		quorum bool
		want   string
	}{
		{lease.View{Boot: 3, Live: true, Sessions: own(lease.Live)}, true, ""},
		{lease.View{Boot: 3, Sessions: own(lease.Dead), State: "x"}, true, "node n1 was declared dead by the others"},
		{lease.View{Boot: 4, Sessions: own(lease.Dead), State: "publishing the session"}, true, "node n1 is not live (publishing the session)"},
		{lease.View{Boot: 3, Live: true, Sessions: own(lease.Live)}, false, "there is no quorum"},
	} {
		if got := n.staleness(c.view, c.quorum); (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.view, got, c.want)
		}
	}
}

// What a node waits for is shown by /readyz, status and the service manager's status line.
func TestWhatANodeWaitsForHasNoWordsOfTheLibrary(t *testing.T) {
	n := &Node{}
	n.wait("topic orders: ensure stream: nats: API error: code=503 err_code=10008 description=JetStream system temporarily unavailable",
		"the bucket with sessions and leases: context deadline exceeded", "dead letters of group billing: nats: no responders available for request")
	want := "topic orders: ensure stream: no leader answers; the bucket with sessions and leases: no answer in time; " +
		"dead letters of group billing: no leader answers"
	if got := strings.Join(n.Ready(), "; "); got != want {
		t.Errorf("waits for %q", got)
	}
}
