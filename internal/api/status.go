// Package api is a node's face to people and programs: health and status over HTTP, on a port and on a Unix socket in
// the data directory, and the client for both. What is on the port beyond health may need a token.
package api

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"leasehold/internal/brokererr"
)

// Version is the version of the status schema. Fields are added within a version, never renamed or removed.
const Version = 1

// Status is what one node knows about its cluster: GET /v1/status, and `leasehold status -o json`.
type Status struct {
	V        int    `json:"v"`                   // Version.
	Cluster  string `json:"cluster"`             // Name of the cluster.
	Node     string `json:"node"`                // Node that answered.
	Ready    bool   `json:"ready"`               // That node takes part in everything.
	Quorum   bool   `json:"quorum"`              // A majority of the nodes works together.
	Leader   string `json:"leader"`              // Node that leads the broker's meta group, empty if unknown.
	NoQuorum string `json:"no_quorum,omitempty"` // What is missing, if Quorum is false.
	// Why owners, lags and sizes are the last known ones; absent if they are of now.
	Stale    string   `json:"stale,omitempty"`
	Listen   []string `json:"listen,omitempty"` // Addresses of its config at which that node listens.
	Warnings []string `json:"warnings"`
	Nodes    []Node   `json:"nodes"`
	Topics   []Topic  `json:"topics"`
	Groups   []Group  `json:"groups"`
}

// Node is one node of the cluster.
type Node struct {
	Name string `json:"name"`
	Boot uint64 `json:"boot"` // Session life of the node; a new number at every start.
	// NodeLive, NodeUnreachable, NodeWaiting, NodeDead, "ended", or "absent" if it was never seen.
	State      string `json:"state"`
	Ready      bool   `json:"ready"`      // As that node said last.
	Partitions int    `json:"partitions"` // Partitions that it owns, over all groups.
	Version    string `json:"version"`
	Address    string `json:"address"`             // Its cluster address.
	LastSeen   string `json:"last_seen,omitempty"` // When it last answered, RFC 3339, if it does not now.

	DiskFree   uint64  `json:"disk_free"`    // Bytes free on the file system of its data directory; 0 if it does not say.
	DiskShort  bool    `json:"disk_short"`   // That is less than min_free, so publishes are refused on all nodes.
	FsyncP99MS float64 `json:"fsync_p99_ms"` // p99 of small fsyncs over the last hour; 0 if unknown.

	Refused []Refused `json:"refused,omitempty"` // What it has refused clients since its start, most frequent first.

	LogDropped uint64 `json:"log_dropped,omitempty"` // Log lines that its stderr did not take, since its start.

	// Topics whose replica on that node is corrupt; it owns no partitions until they are repaired.
	Damaged []string `json:"damaged"`
}

// Refused is how often something of a client was refused.
type Refused struct {
	User   string `json:"user"`   // Or the address of a client that had not logged in.
	Reason string `json:"reason"` // See docs/errors.md.
	Count  uint64 `json:"count"`
}

// States of a node whose session was alive when it was last heard of.
const (
	NodeLive        = "live"        // It is alive.
	NodeUnreachable = "unreachable" // It does not answer.
	NodeWaiting     = "waiting"     // It answers, but there is no quorum to renew its session with.
)

// NodeDead is the state of a node that the others declared dead.
const NodeDead = "buried"

// Topic is one topic.
type Topic struct {
	Name       string `json:"name"`
	Partitions int    `json:"partitions"`
	Messages   uint64 `json:"messages"` // Stored now.
	Bytes      uint64 `json:"bytes"`    // Taken by them.
	LastSeq    uint64 `json:"last_seq"` // Sequence of the newest message.
	Held       bool   `json:"held"`     // Publishes are refused, because a node is short of disk space.
}

// Group is one group.
type Group struct {
	Name        string      `json:"name"`
	Topic       string      `json:"topic"`
	Lag         *int64      `json:"lag"`          // Sum of the partitions' lags; null if one of them is.
	Unowned     int         `json:"unowned"`      // Partitions without an owner.
	DeadLetters int64       `json:"dead_letters"` // Dead letters, including parked messages; -1 if unknown.
	Partitions  []Partition `json:"partitions"`
}

// Partition is one partition of a group.
type Partition struct {
	Partition int    `json:"partition"`
	Owner     string `json:"owner"` // Node that owns it, empty if nobody does.
	Boot      uint64 `json:"boot"`  // The owner's boot.
	Epoch     uint64 `json:"epoch"` // Fencing token of the lease.
	Done      uint64 `json:"done"`  // Every message of the partition with a sequence ≤ Done is finished.
	Lag       *int64 `json:"lag"`   // Messages of the partition after Done; null if unknown.
	State     string `json:"state"`
	Attempt   int    `json:"attempt"` // Failed calls of the message after Done.
	Error     string `json:"error"`   // Why the partition makes no progress, empty if it does.

	RetryAt string `json:"retry_at,omitempty"` // When a partition that waits tries again, RFC 3339.
	Paused  string `json:"paused,omitempty"`   // Why it is paused, absent if it is not.
	Release string `json:"release,omitempty"`  // Why the last release was not handled whole, if its owner knows.
	Parked  int    `json:"parked,omitempty"`   // Keys whose messages are dead letters until they are released.
}

// TopicInfo is what a publisher must know about a topic: GET /v1/topics/{topic}.
type TopicInfo struct {
	Name          string `json:"name"`
	Partitions    int    `json:"partitions"`
	Subject       string `json:"subject"`         // Pattern that publishers write to.
	Key           []int  `json:"key"`             // Wildcards of the subject that make the key, counted from 1.
	DedupWindowMS int64  `json:"dedup_window_ms"` // How long a message id is remembered.
	MaxPayload    int64  `json:"max_payload"`     // Largest payload, in bytes.
	Server        string `json:"server"`          // host:port of this node's listener for NATS clients.
	// Why messages are not acknowledged at the moment: too few nodes answer.
	NoQuorum string `json:"no_quorum,omitempty"`
	// PEM of the CA of that listener's certificate, if it is the cluster's.
	CA string `json:"ca,omitempty"`
}

// Readiness is the answer of GET /readyz.
type Readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons,omitempty"` // What the node waits for.
}

// Liveness is the answer of GET /livez.
type Liveness struct {
	Live   bool   `json:"live"`
	Reason string `json:"reason,omitempty"` // Why the process should be replaced.
}

// Source is where the answers come from. Its methods are called from many goroutines.
type Source interface {
	// Ready lists what the node waits for; empty means ready.
	Ready() []string
	// Status tells what the node knows. An error means that it cannot tell yet.
	Status(ctx context.Context) (*Status, error)
	// Topic tells about one of the node's topics.
	Topic(name string) (TopicInfo, bool)
}

// What the client returns besides plain failures.
var (
	ErrUnreachable = errors.New("no agent answers") // Nothing listens, or it does not speak.
	ErrNotAllowed  = errors.New("not allowed")      // The agent wants a token, or another one.
	ErrNotFound    = errors.New("not found")        // The agent knows no such thing.
	ErrNotYet      = errors.New("not yet")          // The agent runs and cannot tell yet.

	// ErrNoQuorum: too few nodes answer, or they have no leader. It wraps ErrNotYet; the text of the error that wraps it
	// says what is missing.
	ErrNoQuorum = fmt.Errorf("%w: no quorum", ErrNotYet)
	// ErrWrongToken is an ErrNotAllowed where a token was shown.
	ErrWrongToken = fmt.Errorf("%w: the token does not match the agent's", ErrNotAllowed)
)

// normal makes empty lists of absent ones: a reader of the JSON never meets null where a list belongs.
func (s *Status) normal() *Status {
	c := *s
	c.V = Version
	c.Warnings = plainTexts(c.Warnings)
	fill(&c.Warnings)
	fill(&c.Nodes)
	fill(&c.Topics)
	fill(&c.Groups)
	c.Nodes = slices.Clone(c.Nodes)
	for i := range c.Nodes {
		fill(&c.Nodes[i].Damaged)
	}
	groups := make([]Group, len(c.Groups))
	for i, g := range c.Groups {
		fill(&g.Partitions)
		groups[i] = g
	}
	c.Groups = groups
	return &c
}

// plainTexts puts what texts say of the broker's errors into our words.
func plainTexts(texts []string) []string {
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = brokererr.Plain(text)
	}
	return out
}

func fill[T any](list *[]T) {
	if *list == nil {
		*list = []T{}
	}
}

// notShown stands for a text that may hold what messages hold: handlers put that into errors.
const notShown = "not shown here: ask through the agent's socket, or with a token (http.token_file)"

// withoutTexts is a status for those who have shown nothing.
func (s *Status) withoutTexts() *Status {
	if n := len(s.Warnings); n > 0 {
		s.Warnings = []string{fmt.Sprintf("%d warnings, %s", n, notShown)}
	}
	for i := range s.Groups {
		parts := slices.Clone(s.Groups[i].Partitions)
		for p := range parts {
			hide(&parts[p].Error)
			hide(&parts[p].Paused)
		}
		s.Groups[i].Partitions = parts
	}
	return s
}

func hide(text *string) {
	if *text != "" {
		*text = notShown
	}
}
