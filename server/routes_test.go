package server

import (
	"testing"
	"time"

	broker "github.com/nats-io/nats-server/v2/server"
)

// closing is what the broker says at the end of a route: TestRouteEndings shows that it does.
func closing(r *routes, head string, args ...any) { r.notice(head+routeClosedFormat, args) }

func ended(r *routes, number string, reason broker.ClosedState) {
	closing(r, "10.0.0.2:6222 - rid:"+number, routeKind, reason, "Remote: n2-xyz")
}

// watched is a table with two routes to one process of n2 and one to n3.
func watchedRoutes(cutOff func()) *routes {
	r := newRoutes(cutOff)
	r.learn([]*broker.RouteInfo{
		{Rid: 7, RemoteID: "B", RemoteName: "n2-xyz"}, {Rid: 8, RemoteID: "B", RemoteName: "n2-xyz"},
		{Rid: 9, RemoteID: "C", RemoteName: "n3-xyz"},
	}, time.Now())
	return r
}

func wantEnding(t *testing.T, r *routes, want string) {
	t.Helper()
	got := ""
	select {
	case e := <-r.endings:
		got = e.Node + " " + e.ServerID
	default:
	}
	if got != want {
		t.Errorf("the table tells of the end of %q, want %q", got, want)
	}
}

// TestOnlyThePeersEndsOfAllRoutesCount goes through every reason that the broker has to end a route.
func TestOnlyThePeersEndsOfAllRoutesCount(t *testing.T) {
	peers := map[string]bool{"Client Closed": true, "Read Error": true, "Write Error": true}
	seen := 0
	for reason := broker.ClientClosed; reason.String() != "Unknown State"; reason++ {
		r, want := watchedRoutes(nil), ""
		ended(r, "7", broker.ClientClosed)
		wantEnding(t, r, "")
		ended(r, "8", reason)
		if peers[reason.String()] {
			want = "n2 B"
			seen++
		}
		t.Run(reason.String(), func(t *testing.T) { wantEnding(t, r, want) })
	}
	if seen != len(peers) {
		t.Errorf("%d of %d reasons of the peer are reasons of the broker", seen, len(peers))
	}
}

func TestRoutesThatEndApartAreNoDeath(t *testing.T) {
	r, now := watchedRoutes(nil), time.Now()
	r.closed(7, true, now)
	r.closed(8, true, now.Add(endedTogether+time.Millisecond))
	wantEnding(t, r, "")

	r = watchedRoutes(nil) // the first one had been replaced, or was forgotten, when the last one ended
	r.closed(7, true, now)
	r.learn([]*broker.RouteInfo{{Rid: 8, RemoteID: "B"}, {Rid: 9, RemoteID: "C"},
		{Rid: 10, RemoteID: "B", RemoteName: "n2-xyz"}}, now.Add(2*endedTogether))
	r.closed(8, true, now.Add(3*endedTogether))
	wantEnding(t, r, "")
	r.closed(10, true, now.Add(3*endedTogether))
	wantEnding(t, r, "n2 B")
}

// TestARouteThatWasReplacedHidesNoDeath: brokers that have just met close what they have too many of, and one may die
// then.
func TestARouteThatWasReplacedHidesNoDeath(t *testing.T) {
	r := watchedRoutes(nil)
	ended(r, "7", broker.DuplicateRoute)
	wantEnding(t, r, "")
	ended(r, "8", broker.ReadError)
	wantEnding(t, r, "n2 B")
}

// TestOtherNoticesAreNoEnds: only a route that has said who it is, and is in the table, is looked at.
// A route that comes into the table only after the others of its process have ended, and then ends, is no second death.
func TestADeathIsToldOnce(t *testing.T) {
	r := watchedRoutes(nil)
	ended(r, "7", broker.ClientClosed)
	ended(r, "8", broker.ClientClosed)
	wantEnding(t, r, "n2 B")
	r.learn([]*broker.RouteInfo{{Rid: 9, RemoteID: "C", RemoteName: "n3-xyz"},
		{Rid: 12, RemoteID: "B", RemoteName: "n2-xyz"}}, time.Now())
	ended(r, "12", broker.ClientClosed)
	wantEnding(t, r, "")
}

func TestOtherNoticesAreNoEnds(t *testing.T) {
	r := watchedRoutes(func() { t.Error("taken for the end of the last route") })
	ended(r, "7", broker.ClientClosed)
	ended(r, "17", broker.ClientClosed)
	closing(r, "10.0.0.2:6222 - rid:8", "Leafnode", broker.ClientClosed, "Remote: n2-xyz")
	closing(r, "10.0.0.2:6222 - rid:8", routeKind, "Client Closed", "Remote: n2-xyz")
	closing(r, "10.0.0.2:6222 - rid:8x", routeKind, broker.ClientClosed, "Remote: n2-xyz")
	closing(r, "10.0.0.2:6222 - cid:8", routeKind, broker.ClientClosed, "Remote: n2-xyz")
	closing(r, "", routeKind, broker.ClientClosed, "Remote: n2-xyz")
	r.notice("10.0.0.2:6222 - rid:8 - %s connection closed: %s", []any{routeKind, broker.ClientClosed})
	r.notice("10.0.0.2:6222 - rid:8 - Router connection closed: Client Closed - Remote: n2-xyz", nil)
	wantEnding(t, r, "")
}

// TestTheEndOfTheLastRouteCutsOff, whatever ended it, also if the broker told of it before the route was in the table.
func TestTheEndOfTheLastRouteCutsOff(t *testing.T) {
	cuts := 0
	r := watchedRoutes(func() { cuts++ })
	ended(r, "7", broker.StaleConnection)
	ended(r, "9", broker.DuplicateRoute)
	if cuts > 0 {
		t.Error("cut off with a route left")
	}
	ended(r, "8", broker.SlowConsumerWriteDeadline)
	if cuts != 1 {
		t.Errorf("cut off %d times by the end of the last route", cuts)
	}
	r = watchedRoutes(func() { cuts++ })
	r.learn(nil, time.Now())
	if cuts != 2 {
		t.Errorf("cut off %d times by an empty list", cuts-1)
	}
}
