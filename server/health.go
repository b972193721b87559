package server

import (
	"context"
	"fmt"
	"leasehold/server/datadir"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	broker "github.com/nats-io/nats-server/v2/server"
)

// How health is looked at.
const (
	checkSoon       = 100 * time.Millisecond // between looks until ready
	checkLater      = 500 * time.Millisecond // between looks while ready
	goodChecks      = 3                      // in a row make it ready: the first good one may be a passing moment
	graceHeartbeats = 4                      // heartbeats that a bad state must last to end readiness
	minGrace        = time.Second
)

// NotMember is the reason of a node that the others do not count.
const NotMember = "this node is not a member of the cluster: it was removed, or has not been taken in yet"

// settling is the reason between the first good look and the last one needed.
const settling = "making sure that the broker stays healthy"

// view is what one look saw.
type view struct {
	complaint string          // the broker's own, "" if it has none
	leader    string          // node that leads the meta group, "" if none is known
	member    bool            // we are in the meta group
	formed    bool            // the cluster has been complete once, as this directory remembers
	meta      map[string]bool // nodes in the meta group, without us
	voters    int             // how many the meta group has, with us and with those whose names nobody here has heard
	routes    map[string]bool // nodes we have a route to
	refusal   string          // why a route was refused lately, "" if none was
}

// reasons says in plain words why this node is not ready, none if it is. A first start waits for every configured
// node, as the broker does: before anything is committed it cannot tell a new cluster from one that lost its disks.
// Later starts need a majority, which is what a leader that we keep up with proves. So does the first start of a node
// that joins a cluster which works: a leader that has taken us in beside a majority of the nodes was not elected by a
// cluster that is just being made, for that one's first leader needs all their votes.
func (v view) reasons(self string, peers []Peer) []string {
	out := v.clusterReasons(self, peers)
	if len(out) > 0 && v.refusal != "" {
		out = append(out, v.refusal)
	}
	return out
}

func (v view) clusterReasons(self string, peers []Peer) []string {
	unreached := missing(self, peers, v.routes)
	joined := v.leader != "" && v.member && v.voters >= max(minPeers, len(peers)/2+1)
	first := !v.formed && !joined
	switch {
	case first && len(unreached) > 0:
		return []string{"waiting for " + list(unreached) + ": the first start needs every node"}
	case (v.leader == "" || v.complaint != "") && len(peers)-len(unreached) <= len(peers)/2:
		return []string{fmt.Sprintf("waiting for %s: a majority of %d nodes is needed", list(unreached), len(peers))}
	case v.leader == "":
		return []string{"no meta leader yet"}
	case v.complaint != "":
		return []string{"broker: " + v.complaint}
	case !v.member:
		return []string{NotMember}
	}
	if absent := missing(self, peers, v.meta); first && len(absent) > 0 {
		return []string{"waiting for " + list(absent) + " to join the cluster: the first start needs every node"}
	}
	return nil
}

// missing are the configured nodes, other than us, that are not in the set.
func missing(self string, peers []Peer, have map[string]bool) []Peer {
	return slices.DeleteFunc(slices.Clone(peers), func(p Peer) bool { return p.Name == self || have[p.Name] })
}

// list names nodes with the addresses at which we expect them.
func list(peers []Peer) string {
	names := make([]string, len(peers))
	for i, p := range peers {
		names[i] = fmt.Sprintf("%s (%s)", p.Name, p.Address)
	}
	return strings.Join(names, ", ")
}

// verdict turns looks into readiness that neither comes too early nor flutters: a follower that is starved for half
// a second complains, and nothing is wrong.
type verdict struct {
	grace    time.Duration
	good     int       // good looks in a row
	ready    bool      // good looks came, and no bad state lasted for grace
	badSince time.Time // start of the bad looks in a row; zero after a good one
	reasons  []string  // shown while not ready, then never empty
}

func (v *verdict) add(reasons []string, now time.Time) {
	if len(reasons) == 0 {
		v.badSince = time.Time{}
		v.good++
		if v.good >= goodChecks {
			v.ready = true
		}
		v.reasons = []string{settling}
		return
	}
	v.good, v.reasons = 0, reasons
	if v.badSince.IsZero() {
		v.badSince = now
	}
	if now.Sub(v.badSince) >= v.grace {
		v.ready = false
	}
}

// health looks at the broker from time to time and keeps what it found for Ready.
type health struct {
	s *Server

	voters atomic.Int32 // of the last look

	mu      sync.Mutex
	verdict verdict
}

func newHealth(s *Server) *health {
	return &health{s: s, verdict: verdict{
		grace:   max(minGrace, graceHeartbeats*s.opt.Timing.Heartbeat),
		reasons: []string{"the broker is starting"},
	}}
}

// run looks until ctx ends.
func (h *health) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	said := "the broker is starting"
	for {
		select {
		case <-ctx.Done():
			h.stop()
			return
		case <-timer.C:
		}
		reasons := h.check()
		said = h.logChange(reasons, said)
		if len(reasons) == 0 {
			timer.Reset(checkLater)
		} else {
			timer.Reset(checkSoon)
		}
	}
}

// check takes one look and returns the verdict so far.
func (h *health) check() []string {
	reasons := h.s.checkNow()
	h.mu.Lock()
	h.verdict.add(reasons, time.Now())
	h.mu.Unlock()
	return h.reasons()
}

// logChange logs a change, and only that. It returns what has now been said.
func (h *health) logChange(reasons []string, said string) string {
	text := strings.Join(reasons, "; ")
	switch {
	case text == said || text == settling: // settling passes at every start: not worth a line
		return said
	case text == "":
		h.s.log.Info("broker is ready", "leader", h.s.MetaLeader())
	default:
		h.s.log.Info("broker is not ready", "reason", text)
	}
	return text
}

func (h *health) reasons() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.verdict.ready {
		return nil
	}
	return slices.Clone(h.verdict.reasons)
}

// stop makes the broker not ready until the process makes another one.
func (h *health) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.verdict = verdict{reasons: []string{"the broker is stopping"}}
}

// Ready says why the broker is not ready, nothing if it is. Connected is not ready: ready means that JetStream takes
// writes as far as this node can see.
func (s *Server) Ready() []string { return s.health.reasons() }

// checkNow is one look. In cluster mode the first good one is remembered in the data directory.
func (s *Server) checkNow() []string {
	complaint := s.complaint()
	if s.opt.Mode == datadir.Single {
		if complaint != "" {
			return []string{"broker: " + complaint}
		}
		return nil
	}
	v, err := s.observe(complaint)
	if err != nil {
		return []string{"look at the broker: " + err.Error()}
	}
	reasons := v.reasons(s.opt.Node, s.opt.Peers)
	if len(reasons) == 0 && !v.formed {
		if err := s.opt.Dir.SetFormed(); err != nil {
			return []string{"remember that the cluster is complete: " + err.Error()}
		}
	}
	return reasons
}

// complaint is what the broker says against its own meta layer or, in single mode, its streams.
func (s *Server) complaint() string {
	if !s.broker.JetStreamEnabled() {
		return storageOff
	}
	status := s.broker.Healthz(&broker.HealthzOptions{JSMetaOnly: true})
	if status.Error == "" && status.StatusCode != 200 {
		return status.Status
	}
	return status.Error
}

// storageOff is what a full disk leads to. The broker stays so when there is room again.
const storageOff = "its storage is switched off, as after a full disk"

// writeErrorText is in what the broker says of a Raft group or stream that stopped because of an error of the disk
// (nats-server v2.15.2, server/monitor.go and server/jetstream_cluster.go). It stays stopped too.
const writeErrorText = "write error"

// StorageFault says that an error of the disk has ended a part of the broker's storage or all of it, from which only a
// new start brings it back; "" if none has. A node that was removed has its storage switched off as well: that is not
// meant.
func (s *Server) StorageFault() string {
	if !isClosed(s.started) || s.out.removed.Load() {
		return ""
	}
	complaint := s.complaint()
	if complaint == storageOff || strings.Contains(complaint, writeErrorText) {
		return "the broker stopped storing: " + complaint
	}
	for name, text := range s.streamComplaints() {
		if strings.Contains(text, writeErrorText) {
			return fmt.Sprintf("the broker stopped storing: stream %s: %s", name, text)
		}
	}
	return ""
}

func (s *Server) observe(complaint string) (view, error) {
	v := view{complaint: complaint, meta: map[string]bool{}, routes: map[string]bool{}, refusal: s.out.recentRefusal()}
	formed, err := s.opt.Dir.Formed()
	if err != nil {
		return v, err
	}
	v.formed = formed
	if meta := s.meta(); meta != nil {
		if v.leader = nodeName(meta.Leader); v.leader != "" {
			s.heard.noteLeader(time.Now())
		}
		// With a leader known, the broker lists the others only. A node that was removed still lists the whole group;
		// its own health check says nothing of it.
		v.member = len(meta.Replicas) < meta.Size
		v.voters = len(meta.Replicas) + 1
		s.health.voters.Store(int32(v.voters))
		for _, p := range meta.Replicas {
			v.meta[nodeName(p.Name)] = true
		}
	}
	if complaint == "" && formed {
		return v, nil // routes are not asked for then, and listing them is work for the broker
	}
	routes, err := s.broker.Routez(nil)
	if err != nil {
		return v, err
	}
	for _, r := range routes.Routes {
		v.routes[nodeName(r.RemoteName)] = true
	}
	return v, nil
}

// meta is the broker's view of the meta group, nil if there is none.
func (s *Server) meta() *broker.MetaClusterInfo {
	info, err := s.broker.Jsz(nil)
	if err != nil {
		return nil
	}
	return info.Meta
}

// MetaLeader is the node that leads the cluster, "" if none is known or in single mode.
func (s *Server) MetaLeader() string {
	if meta := s.meta(); meta != nil {
		return nodeName(meta.Leader)
	}
	return ""
}

// ReadyStreams says which of these streams are not yet current on this node, nothing if all are. In a cluster of more
// nodes than replicas, a node without a replica is as ready as any: it reads from another.
func (s *Server) ReadyStreams(names ...string) []string {
	if s.opt.Mode == datadir.Single {
		return s.readySingle(names)
	}
	unhealthy := s.streamComplaints()
	var out []string
	for _, name := range names {
		switch {
		case unhealthy[name] != "":
			out = append(out, fmt.Sprintf("stream %s: %s", name, unhealthy[name]))
		case !s.spreads() && !s.broker.JetStreamIsStreamAssigned(Account, name):
			out = append(out, fmt.Sprintf("stream %s: this node has no replica of it", name))
		}
	}
	return out
}

// spreads reports whether there are more nodes than replicas. What the cluster counts goes before what this node's
// config says: nodes that joined later are not in it until its next change.
func (s *Server) spreads() bool {
	return max(len(s.opt.Peers), int(s.health.voters.Load())) > replicaCount
}

func (s *Server) readySingle(names []string) []string {
	var out []string
	for _, name := range names {
		status := s.broker.Healthz(&broker.HealthzOptions{Account: Account, Stream: name})
		if status.Error != "" {
			out = append(out, fmt.Sprintf("stream %s: %s", name, status.Error))
		}
	}
	return out
}

// streamComplaints asks about the whole account and picks the streams: asked about one stream by name, the broker also
// complains of that stream's consumers that live on other nodes.
func (s *Server) streamComplaints() map[string]string {
	status := s.broker.Healthz(&broker.HealthzOptions{Account: Account, Details: true})
	out := make(map[string]string)
	for _, e := range status.Errors {
		if e.Stream != "" && e.Consumer == "" {
			out[e.Stream] = e.Error
		}
	}
	return out
}
