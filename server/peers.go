package server

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"leasehold/server/datadir"
	"strings"
	"time"

	broker "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Errors of membership.
var (
	// ErrNoLeader: nobody leads the cluster, so nobody can say who its members are, or change them.
	ErrNoLeader = errors.New("no meta leader answers: the cluster has no quorum, or is just electing")
	// ErrNotMember: the cluster does not count such a peer.
	ErrNotMember = errors.New("not a member of the cluster")
)

// ClusterPeer is one voter of the cluster, as the meta leader sees it. A voter is an identity, not a name: a node that
// starts with an empty disk is another one.
type ClusterPeer struct {
	ID      string        // The broker's id of it, made from Server.
	Server  string        // Its server name, node and random id; "" if no node that runs has met it.
	Leader  bool          // It leads.
	Current bool          // It has everything.
	Offline bool          // Nobody has heard of it for a while.
	Silent  time.Duration // Since when, if it is not the leader.
}

// Node is the node's name, "" if it is not known.
func (p ClusterPeer) Node() string { return nodeName(p.Server) }

// aliveWithin is how lately the leader must have heard of a peer that is alive: several heartbeats.
const aliveWithin = 3 * time.Second

// Alive reports whether the leader hears the peer. The broker's own word, Offline, comes minutes after a crash. A
// leader that was just elected has heard nobody: Silent is 0.
func (p ClusterPeer) Alive() bool {
	return p.Leader || !p.Offline && p.Silent > 0 && p.Silent < aliveWithin
}

// Membership is the set of voters and how many of them a decision needs.
type Membership struct {
	Peers  []ClusterPeer
	Quorum int
}

// The system account's subjects, answered by the meta leader alone (nats-server v2.15.2, server/jetstream_api.go and
// server/events.go).
const (
	subjectInfo   = "$SYS.REQ.SERVER.PING.JSZ"
	subjectRemove = "$JS.API.SERVER.REMOVE"
)

// codeNotMember is the broker's error for a server that is not a peer (JSClusterServerNotMemberErr).
const codeNotMember = 10044

// PeerID is the broker's id of the server of that name (nats-server v2.15.2, server/events.go: getHash).
func PeerID(server string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum := sha256.Sum256([]byte(server))
	id := sum[:8]
	for i, b := range id {
		id[i] = digits[int(b)%len(digits)]
	}
	return string(id)
}

// Membership asks the meta leader who votes.
func (s *Server) Membership(ctx context.Context) (Membership, error) {
	if s.opt.Mode == datadir.Single {
		return Membership{}, ErrNotMember
	}
	var answer struct {
		Data struct {
			Meta *broker.MetaClusterInfo `json:"meta_cluster"`
		} `json:"data"`
	}
	if err := s.systemRequest(ctx, subjectInfo, map[string]bool{"leader_only": true}, &answer); err != nil {
		return Membership{}, err
	}
	meta := answer.Data.Meta
	if meta == nil || meta.Leader == "" {
		return Membership{}, ErrNoLeader
	}
	m := Membership{Quorum: meta.QuorumNeeded}
	m.Peers = append(m.Peers, ClusterPeer{ID: PeerID(meta.Leader), Server: meta.Leader, Leader: true, Current: true})
	for _, r := range meta.Replicas {
		p := ClusterPeer{ID: r.Peer, Server: r.Name, Current: r.Current && !r.Offline, Offline: r.Offline, Silent: r.Active}
		if strings.Contains(r.Name, " ") { // "Server name unknown at this time (…)"
			p.Server = ""
		}
		m.Peers = append(m.Peers, p)
	}
	return m, nil
}

// RemovePeer removes a voter from the cluster permanently: its identity must not come back. The caller has made sure
// that the peer is dead and the others are healthy. It returns once the others have agreed.
func (s *Server) RemovePeer(ctx context.Context, id string) error {
	var answer broker.JSApiMetaServerRemoveResponse
	if err := s.systemRequest(ctx, subjectRemove, broker.JSApiMetaServerRemoveRequest{Peer: id}, &answer); err != nil {
		return fmt.Errorf("remove peer %s: %w", id, err)
	}
	switch e := answer.Error; {
	case e != nil && e.ErrCode == codeNotMember:
		return fmt.Errorf("remove peer %s: %w", id, ErrNotMember)
	case e != nil:
		return fmt.Errorf("remove peer %s: %w", id, e)
	case !answer.Success:
		return fmt.Errorf("remove peer %s: the leader did not say that it did", id)
	}
	return nil
}

// systemRequest asks in the brokers' own account, over a connection of its own: it is seldom done, and the account is
// reachable in this process only.
func (s *Server) systemRequest(ctx context.Context, subject string, request, answer any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	nc, err := s.connect("membership", s.users.system)
	if err != nil {
		return err
	}
	defer nc.Close()
	msg, err := nc.RequestWithContext(ctx, subject, data)
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) {
		return ErrNoLeader
	}
	if err != nil {
		return fmt.Errorf("ask the meta leader: %w", err)
	}
	if err := json.Unmarshal(msg.Data, answer); err != nil {
		return fmt.Errorf("read the meta leader's answer %.100q: %w", msg.Data, err)
	}
	return nil
}
