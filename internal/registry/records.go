package registry

import (
	"errors"
	"fmt"
	"time"

	"leasehold/partitioner"
	"leasehold/server/datadir"
)

// Version is the version of every record here.
const Version = 1

// Cluster is what all nodes must agree on. The first node defines it; it never changes.
type Cluster struct {
	Version int           `json:"v"`
	Mode    datadir.Mode  `json:"mode"`
	Timing  string        `json:"timing"`
	TTL     time.Duration `json:"session_ttl_ns"`
	Renew   time.Duration `json:"renew_ns"`
	Margin  time.Duration `json:"margin_ns"`
}

// Valid says what is missing.
func (c Cluster) Valid() error {
	if c.Mode != datadir.Single && c.Mode != datadir.Cluster || c.TTL <= 0 || c.Renew <= 0 || c.Margin <= 0 {
		return fmt.Errorf("mode %q with session_ttl %v, renew %v, margin %v", c.Mode, c.TTL, c.Renew, c.Margin)
	}
	return nil
}

// Topic is a topic as the first node with it in its config defined it. Partitions, Subject and Key never change; a node
// whose config says otherwise refuses to start.
type Topic struct {
	Version    int    `json:"v"`
	Partitions int    `json:"partitions"`
	Subject    string `json:"subject"`
	Key        []int  `json:"key"`
	Floor      uint64 `json:"floor"` // Every message up to this sequence may have been purged.

	// Groups are all that ever read the topic: a purge waits for each of them. A group is added before it is
	// defined, so that a janitor's compare-and-set on a revision without it cannot succeed any more.
	Groups []string `json:"groups,omitempty"`

	// Retain is how long messages stay once every group has finished them: what the last node that started with a retain
	// in its config said.
	Retain  time.Duration `json:"retain_ns,omitempty"`
	Removed bool          `json:"removed,omitempty"` // Its name cannot be used again.
}

// Valid says what is missing, and refuses a number of partitions that no node can have stored: tables are made of it.
func (t Topic) Valid() error {
	if t.Partitions < 1 || t.Partitions > partitioner.MaxPartitions {
		return fmt.Errorf("%d partitions are not 1 to %d", t.Partitions, partitioner.MaxPartitions)
	}
	if t.Subject == "" {
		return errors.New("it has no subject")
	}
	if t.Retain < 0 {
		return fmt.Errorf("its retain is %v", t.Retain)
	}
	return nil
}

// Fixed is what of a topic can never change, under a name.
func (t Topic) Fixed(name string) partitioner.Topic {
	return partitioner.Topic{Name: name, Partitions: t.Partitions, Subject: t.Subject, Key: t.Key}.WithDefaults()
}

// SameAs reports whether what can never change is the same in both.
func (t Topic) SameAs(o Topic) bool {
	return t.Partitions == o.Partitions && t.Subject == o.Subject && fmt.Sprint(t.Key) == fmt.Sprint(o.Key)
}

// Group is a group as the first node with it in its config defined it. Topic, Start and StartAfter never change.
type Group struct {
	Version    int    `json:"v"`
	Topic      string `json:"topic"`
	Start      string `json:"start"`
	StartAfter uint64 `json:"start_after"`       // Messages up to this sequence are not the group's.
	Removed    bool   `json:"removed,omitempty"` // Its name cannot be used again.

	// Undefined says that nothing is stored: the group was made up from what a node left that died while it defined it.
	Undefined bool `json:"-"`
}

// Valid says what is missing.
func (g Group) Valid() error {
	if g.Topic == "" || g.Start == "" {
		return fmt.Errorf("topic %q with start %q", g.Topic, g.Start)
	}
	return nil
}

// Peer remembers which node a voter of the cluster was. The broker forgets the name of a peer that none of the running
// nodes has met, and a removed identity must be known when it comes back.
type Peer struct {
	Version int    `json:"v"`
	Node    string `json:"node"`
	Server  string `json:"server"`
	DirID   string `json:"dir_id"`
	Removed bool   `json:"removed,omitempty"`
	By      string `json:"by,omitempty"` // Who removed it, as shown to operators.
}

// Valid says what is missing.
func (p Peer) Valid() error {
	if p.Node == "" && !p.Removed || p.Server == "" {
		return errors.New("it names no node or no server")
	}
	return nil
}

// Corruption tells the other nodes why one does not join the groups: its replicas are corrupt.
type Corruption struct {
	Version    int               `json:"v"`
	Topics     map[string]string `json:"topics"`      // What is wrong with its replica, by topic.
	WaitingFor []string          `json:"waiting_for"` // Why they have not been repaired yet.
}

// RepairTurn is whose turn it is to take its broker down and repair a replica. With no server it is nobody's.
type RepairTurn struct {
	Version int    `json:"v"`
	Server  string `json:"server"`
	Topic   string `json:"topic"`
}
