package server

import (
	"fmt"
	"leasehold/server/datadir"
	"strings"
	"sync"
	"time"

	broker "github.com/nats-io/nats-server/v2/server"
)

// silentAfter is how long a node that says something every second (sayActive) may be silent before it counts as one
// that does not answer. The end of its last route is told at once; this finds one that is frozen or behind a dead link.
const silentAfter = 2500 * time.Millisecond

// SilentPeer is a node that does not answer.
type SilentPeer struct {
	Node, Address string
	Since         time.Time // When it was heard last, or this broker's start if it has never been.
	Heard         bool      // It was heard since this broker's start.
	Replaced      bool      // A node of its name answers and is another one: it has another data directory.
}

// Quorum is which nodes of the cluster answer, as this node sees it.
type Quorum struct {
	Nodes  int // that count, this one too
	Answer int // of these, this one too
	Silent []SilentPeer
	Leader string // of the meta group; "" if none is known

	Leaderless time.Duration // for how long none has been known, since this broker's start
}

// Lost reports whether too few nodes answer for any decision.
func (q Quorum) Lost() bool { return q.Answer < q.Nodes/2+1 }

// Working reports whether a majority answers and has a leader.
func (q Quorum) Working() bool { return !q.Lost() && q.Leader != "" }

// Text says what is missing, "" if nothing is.
func (q Quorum) Text() string {
	switch {
	case q.Working():
		return ""
	case !q.Lost() && len(q.Silent) == 0:
		return fmt.Sprintf("no quorum: %d of %d nodes answer and %s", q.Answer, q.Nodes, q.electing())
	case !q.Lost():
		return fmt.Sprintf("no quorum: %d of %d nodes answer and %s; %s", q.Answer, q.Nodes, q.electing(), q.silentText())
	}
	verb := "answer"
	if q.Answer == 1 {
		verb = "answers"
	}
	return fmt.Sprintf("no quorum: %d of %d nodes %s; %s", q.Answer, q.Nodes, verb, q.silentText())
}

// longElection is longer than an election takes among nodes that have their data.
const longElection = 30 * time.Second

// electing says that there is no leader. If that lasts, the nodes that answer are not those of the former elections.
func (q Quorum) electing() string {
	if q.Leaderless < longElection {
		return "are electing a leader"
	}
	return fmt.Sprintf("have had no leader for %s: did some of them start with an empty data directory?",
		q.Leaderless.Round(time.Second))
}

// silentText names the nodes that do not answer, and since when.
func (q Quorum) silentText() string {
	var names, since []string
	for _, p := range q.Silent {
		if p.Replaced {
			names = append(names, p.Node+" (replaced by one with another data directory)")
			continue
		}
		names = append(names, p.Node)
		when := p.Since.UTC().Format(time.RFC3339)
		if !p.Heard {
			when = "the start of this node at " + when
		}
		if len(since) == 0 || since[len(since)-1] != when {
			since = append(since, when)
		}
	}
	verb := "do"
	if len(names) == 1 {
		verb = "does"
	}
	text := fmt.Sprintf("%s %s not answer", strings.Join(names, ", "), verb)
	if len(since) > 0 {
		text += " since " + strings.Join(since, ", ")
	}
	return text
}

// lastHeard remembers when each other node was heard last.
type lastHeard struct {
	mu        sync.Mutex
	begun     time.Time
	at        map[string]time.Time // by node
	announced map[string]time.Time // the same, of what they say every second
	leaderAt  time.Time            // when a leader was known last, or begun
}

func newLastHeard() *lastHeard {
	now := time.Now()
	return &lastHeard{begun: now, at: map[string]time.Time{}, announced: map[string]time.Time{}, leaderAt: now}
}

// noteLeader takes in that a leader is known.
func (h *lastHeard) noteLeader(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaderAt = now
}

func (h *lastHeard) leaderless() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Since(h.leaderAt)
}

func (h *lastHeard) note(node string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at[node], h.announced[node] = now, now
}

// silent reports whether a connected node says nothing any more. One that has said nothing over its
// present connection is not silent: nodes of earlier versions speak only while somebody publishes there.
func (h *lastHeard) silent(node string, connected, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := h.announced[node]
	return last.After(connected) && now.Sub(last) >= silentAfter
}

// first notes a node that has not been heard yet: it has a route, and says something within a second.
func (h *lastHeard) first(node string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ever := h.at[node]; !ever {
		h.at[node] = now
	}
}

// last is when the node was heard last, or the beginning if it never was.
func (h *lastHeard) last(node string) (at time.Time, ever bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, ever = h.at[node]
	if !ever {
		at = h.begun
	}
	return at, ever
}

// Quorum looks which nodes answer. In single mode there is nobody to miss.
func (s *Server) Quorum() Quorum {
	if s.opt.Mode == datadir.Single {
		return Quorum{Nodes: 1, Answer: 1, Leader: s.opt.Node}
	}
	meta := s.meta()
	q := Quorum{Nodes: 1, Answer: 1, Leaderless: s.heard.leaderless()}
	if meta != nil {
		q.Leader = nodeName(meta.Leader)
	}
	connected := s.connected()
	for _, p := range s.counted(meta) {
		q.Nodes++
		last, ever := s.heard.last(p.Name)
		c, there := connected[p.Name]
		replaced := there && p.server != "" && p.server != c.server
		if there && !replaced && !s.heard.silent(p.Name, c.since, time.Now()) {
			q.Answer++
			continue
		}
		q.Silent = append(q.Silent, SilentPeer{Node: p.Name, Address: p.Address, Since: last, Heard: ever,
			Replaced: replaced})
	}
	return q
}

// connection is that to another node: its server, and since when there has been a route.
type connection struct {
	server string
	since  time.Time
}

// connected are the connections to other nodes, by node.
func (s *Server) connected() map[string]connection {
	have := map[string]connection{}
	list, err := s.broker.Routez(nil)
	if err != nil {
		return have
	}
	for _, r := range list.Routes {
		c := connection{r.RemoteName, r.Start}
		if other, ok := have[nodeName(r.RemoteName)]; ok && other.server == c.server && other.since.Before(c.since) {
			c = other
		}
		have[nodeName(r.RemoteName)] = c
	}
	return have
}

// voter is another node that counts. Its server name is "" if it is not known.
type voter struct {
	Peer
	server string
}

// counted are the other nodes that count for the quorum: the meta group's, which may be more or fewer than the
// configured ones. The broker forgets the names of peers that it has not met since its start; then the config says who
// they are.
func (s *Server) counted(meta *broker.MetaClusterInfo) []voter {
	var configured, all []voter
	address := map[string]string{}
	for _, p := range missing(s.opt.Node, s.opt.Peers, nil) {
		configured = append(configured, voter{Peer: p})
		address[p.Name] = p.Address
	}
	if meta == nil || len(meta.Replicas) == 0 {
		return configured
	}
	for _, r := range meta.Replicas {
		switch {
		case strings.Contains(r.Name, " "): // "Server name unknown at this time (…)"
			return configured
		case r.Name != s.opt.Dir.ServerName():
			name := nodeName(r.Name)
			all = append(all, voter{Peer: Peer{Name: name, Address: address[name]}, server: r.Name})
		}
	}
	return all
}
