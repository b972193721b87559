package server

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	broker "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// How the broker tells of routes (nats-server v2.15.2: client.markConnAsClosed and Server.createRoute): format strings
// behind "ADDRESS - rid:NUMBER - ", of which the first has the arguments "Router", the reason, and "Remote: " with the
// server name of a remote that has said who it is. TestRouteEndings notices a change.
const (
	routeClosedFormat  = " - %s connection closed: %s - %s"
	routeCreatedFormat = " - Route connection created"
	routeKind          = "Router"
)

// How the table of routes is kept. The broker tells who is at the other end only when it is asked.
const (
	routesSoon  = 50 * time.Millisecond // between looks while a new route is not in the table,
	routesNew   = 3 * time.Second       // but for no longer than a handshake may take
	routesLater = 2 * time.Second
)

// endedTogether is within what time all routes to a process end if it is its death that ends them.
const endedTogether = time.Second

// endings kept for their reader, who is never waited for.
const endingsKept = 64

// Ending is the end of every route to another broker process, all of them by that side: it closed them or its kernel
// reset them, within a second. A process that dies looks like that, and so does one that stops or that a firewall has
// cut off with resets; a link that is down does not.
type Ending struct {
	ServerID string    // Of the process at the other end.
	Node     string    // Its node's name.
	At       time.Time // When the last of them ended.
}

// routes follows the broker's routes by what it says while they are made and end.
type routes struct {
	cutOff  func()
	made    chan struct{} // holds a token when a route was made that may not be in the table yet
	lost    chan struct{} // holds a token when a route has ended and the others were not touched since
	endings chan Ending

	mu      sync.Mutex
	known   map[uint64]*route // by the broker's number of it
	closing bool              // the broker is being stopped, and ends its routes
}

// route is one connection to another broker, established at some time.
type route struct {
	server, node string
	ended        time.Time // zero while it is open
	byPeer       bool
	reported     bool // its end was told as that of the process
}

func newRoutes(cutOff func()) *routes {
	if cutOff == nil {
		cutOff = func() {}
	}
	return &routes{cutOff: cutOff, made: make(chan struct{}, 1), lost: make(chan struct{}, 1),
		endings: make(chan Ending, endingsKept), known: map[uint64]*route{}}
}

// notice takes in what the broker says. The broker holds the connection's lock.
func (r *routes) notice(format string, v []any) {
	if strings.HasSuffix(format, routeCreatedFormat) {
		notify(r.made)
		return
	}
	if number, reason, ok := closedRoute(format, v); ok {
		if reason == broker.DuplicateRoute {
			r.forget(number)
		}
		r.closed(number, endedByPeer(reason), time.Now())
		notify(r.lost)
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// closedRoute reads the one notice that a route which knew its remote has ended.
func closedRoute(format string, v []any) (number uint64, reason broker.ClosedState, ok bool) {
	head, found := strings.CutSuffix(format, routeClosedFormat)
	i := strings.LastIndex(head, routeMark)
	if !found || i < 0 || len(v) != 3 || v[0] != routeKind {
		return 0, 0, false
	}
	number, err := strconv.ParseUint(head[i+len(routeMark):], 10, 64)
	reason, typed := v[1].(broker.ClosedState)
	return number, reason, err == nil && typed
}

// endedByPeer holds for what a FIN or a reset of the other side leads to: which of the three says only whether the
// broker was reading or writing when the kernel told it. A kernel that gave up sending looks the same, after minutes; a
// missed ping, a slow peer, a second route to the same server and our own end do not.
func endedByPeer(reason broker.ClosedState) bool {
	return reason == broker.ClientClosed || reason == broker.ReadError || reason == broker.WriteError
}

// closed notes the end of a route.
func (r *routes) closed(number uint64, byPeer bool, now time.Time) {
	r.mu.Lock()
	ended := r.known[number]
	if ended != nil && ended.ended.IsZero() {
		ended.ended, ended.byPeer = now, byPeer
		if r.gone(ended.server, now) && !r.reported(ended.server) {
			ended.reported = true
			select {
			case r.endings <- Ending{ServerID: ended.server, Node: ended.node, At: now}:
			default: // then it is found by its silence
			}
		}
	}
	alone := r.alone()
	r.mu.Unlock()
	// A route that is not in the table yet counts for nothing here. To be cut off once too often costs little.
	if alone {
		r.cutOff()
	}
}

// forget takes a route off the table that the broker closed because it has another one to the same process for the same
// traffic: its end tells nothing of that process, which may die within the next second.
func (r *routes) forget(number uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, number)
}

// close says that all lanes are joined, and that the broker ends its routes now.
func (r *routes) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closing = true
}

// alone reports whether no route is left, though there should be. The caller holds mu.
func (r *routes) alone() bool {
	if r.closing {
		return false
	}
	for _, k := range r.known {
		if k.ended.IsZero() {
			return false
		}
	}
	return true
}

// gone reports whether every route to a process has ended, by its side, and not long ago. The caller holds mu.
func (r *routes) gone(server string, now time.Time) bool {
	for _, k := range r.known {
		if k.server == server && (k.ended.IsZero() || !k.byPeer || now.Sub(k.ended) > endedTogether) {
			return false
		}
	}
	return true
}

// reported reports whether the end of a process was told already: a route to it may come into the table, and end, right
// after. The caller holds mu.
func (r *routes) reported(server string) bool {
	for _, k := range r.known {
		if k.server == server && k.reported {
			return true
		}
	}
	return false
}

// learn takes in the broker's list of established routes. What ended longer ago than routes end together is forgotten.
func (r *routes) learn(open []*broker.RouteInfo, now time.Time) {
	r.mu.Lock()
	listed, lost := map[uint64]bool{}, false
	for _, o := range open {
		listed[o.Rid] = true
		if r.known[o.Rid] == nil && o.RemoteID != "" {
			r.known[o.Rid] = &route{server: o.RemoteID, node: nodeName(o.RemoteName)}
		}
	}
	for number, k := range r.known {
		// The broker tells of an end before it takes the route off its list. So an open one that is off the list ended
		// between an earlier list and its being noted here.
		missed := k.ended.IsZero() && !listed[number]
		if missed || !k.ended.IsZero() && now.Sub(k.ended) > endedTogether {
			delete(r.known, number)
		}
		lost = lost || missed
	}
	alone := lost && r.alone()
	r.mu.Unlock()
	if alone {
		r.cutOff()
	}
}

// watchRoutes keeps the table until ctx ends.
func (s *Server) watchRoutes(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	touch := &toucher{s: s}
	defer touch.close()
	if err := touch.connect(); err != nil { // the others must know of our interest before a route is lost
		s.log.Debug("cannot write to the cluster routes yet", "error", err)
	}
	made := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.routes.made:
			made = time.Now()
		case <-s.routes.lost:
			touch.touch()
		case <-timer.C:
		}
		if list, err := s.broker.Routez(nil); err == nil {
			s.routes.learn(list.Routes, time.Now())
			for _, r := range list.Routes {
				s.heard.first(nodeName(r.RemoteName), time.Now())
			}
		}
		if time.Since(made) < routesNew {
			timer.Reset(routesSoon)
		} else {
			timer.Reset(routesLater)
		}
	}
}

// Subjects in which every broker of the cluster is interested, one for each of the two routes to it.
const (
	touchSubject  = "leasehold.internal.route"
	touchedSystem = "$SYS.REQ.SERVER.PING.VARZ" // not answered if there is nowhere to answer to (events.go, zReq)
)

// toucher sends something over every route. A connection that something on the way has cut off is found out when it is
// written to, and idle ones are written to seldom: the loss of one is reason to look at the others.
type toucher struct {
	s            *Server
	ours, system *nats.Conn // nil until they are made
}

// touch writes to every route. What fails is tried again when the next route is lost.
func (t *toucher) touch() {
	err := t.connect()
	if err == nil {
		err = errors.Join(t.ours.Publish(touchSubject, nil), t.system.Publish(touchedSystem, nil))
	}
	if err != nil {
		t.s.log.Debug("cannot write to the cluster routes", "error", err)
	}
}

func (t *toucher) connect() (err error) {
	if t.ours == nil {
		if t.ours, err = t.s.connect(roleRoutes, t.s.users.roles[roleRoutes].key); err != nil {
			return err
		}
		// Interest is what has the broker send it to the others.
		if _, err = t.ours.Subscribe(touchSubject, func(*nats.Msg) {}); err != nil {
			return err
		}
	}
	if t.system == nil {
		t.system, err = t.s.connect(roleRoutes, t.s.users.system)
	}
	return err
}

func (t *toucher) close() {
	for _, nc := range []*nats.Conn{t.ours, t.system} {
		if nc != nil {
			nc.Close()
		}
	}
}

// Endings tells when all routes to another process have ended by that side. It has one reader.
func (s *Server) Endings() <-chan Ending { return s.routes.endings }

// HasRoute reports whether there is an established route to that process now. Not to be able to tell counts as one.
func (s *Server) HasRoute(serverID string) bool {
	list, err := s.broker.Routez(nil)
	if err != nil {
		return true
	}
	for _, r := range list.Routes {
		if r.RemoteID == serverID {
			return true
		}
	}
	return false
}
