// Package lease is the protocol by which nodes own partitions: sessions that say a node is alive, and leases that say
// whose a partition is.
//
// It is a state machine without clock, goroutine or I/O: [Core.Step] takes the time and an input and returns actions.
// The driver in package cluster feeds it and carries out its actions. Package sim does the same with simulated nodes
// and faults. The rules and why they are safe: cluster/DESIGN.md.
package lease

import (
	"fmt"
	"time"

	"leasehold/internal/ownership"
)

// Time is a reading of the node's boot-time clock (CLOCK_BOOTTIME): it advances while the machine is suspended,
// which Go's own monotonic clock does not. It means nothing on another machine or after a reboot.
type Time = time.Duration

// Key names a record: a session if Node is set, else the lease of a group's partition, or a group's commands
// (CommandsKey).
type Key struct {
	Node      string
	Group     string
	Partition int
}

// SessionKey is the key of a node's session record.
func SessionKey(node string) Key { return Key{Node: node} }

// String spells the key as it is stored: "session.n1", "lease.billing.00003", "control.billing".
func (k Key) String() string {
	switch {
	case k.Node != "":
		return "session." + k.Node
	case k.Partition == wholeGroup:
		return "control." + k.Group
	}
	return fmt.Sprintf("lease.%s.%05d", k.Group, k.Partition)
}

// State is the state of a session.
type State string

const (
	Live  State = "live"  // Its node may run lanes until another node declares it dead.
	Dead  State = "dead"  // Declared dead by another node; alive again only under a higher boot.
	Ended State = "ended" // Ended by its own node after its last lane, or by an operator who removed the node.
)

// Session is the liveness record of one node. The protocol rests on all fields but the last group, which is for
// display.
type Session struct {
	Version int    `json:"v"`
	Node    string `json:"node"`
	Boot    uint64 `json:"boot"` // Number of this session life; never used twice by a node of this name.
	State   State  `json:"state"`
	Nonce   string `json:"nonce"` // New for every attempt to write, so that the writer knows its own.

	// The identity of the process's directory and kernel. Only a record in which all of these equal ours was written by
	// an earlier process on this directory, and we hold the directory's lock now.
	DirID      string `json:"dir_id"`
	KernelBoot string `json:"kernel_boot"`
	LockDev    uint64 `json:"lock_dev"`
	LockIno    uint64 `json:"lock_ino"`

	TTL     time.Duration `json:"ttl_ns"`  // Silence after which an observer may declare the node dead.
	Groups  []string      `json:"groups"`  // Groups whose partitions this node can process.
	Weight  int           `json:"weight"`  // Share of partitions relative to other nodes.
	Leaving bool          `json:"leaving"` // The node is stopping: plan nothing onto it, though it still owns leases.

	ServerID string `json:"server_id"` // The broker's id, new per process.
	// It stops its calls when it is isolated, so a proof of its death counts.
	Provable   bool   `json:"provable,omitempty"`
	Address    string `json:"address"`
	Release    string `json:"release"` // Version of the program.
	Zone       string `json:"zone,omitempty"`
	ConfigHash string `json:"config_hash,omitempty"`
}

// sameDirectory reports whether both records come from one data directory under one running kernel. A kernel without a
// boot id might have been rebooted in between, so it is never the same.
func (s Session) sameDirectory(o Session) bool {
	return s.KernelBoot != "" && s.KernelBoot == o.KernelBoot && s.DirID == o.DirID &&
		s.LockDev == o.LockDev && s.LockIno == o.LockIno
}

// serves reports whether the session's node can process the group.
func (s Session) serves(group string) bool {
	for _, g := range s.Groups {
		if g == group {
			return true
		}
	}
	return false
}

// Lease is the ownership record of one partition in one group. A lease that was never written is free, with epoch 0 and
// the group's start sequence as Checkpoint.
type Lease struct {
	Version   int    `json:"v"`
	Owner     string `json:"owner"`               // Node, or "" if free.
	Boot      uint64 `json:"boot"`                // Session life of the owner that claimed it.
	Epoch     uint64 `json:"epoch"`               // Fencing token: raised by every claim, never lowered.
	Successor string `json:"successor,omitempty"` // Node that a free lease was left to; a hint.

	// The owner's progress, see ownership.Progress.
	Checkpoint       uint64 `json:"checkpoint"`
	Attempt          int    `json:"attempt"`
	Paused           string `json:"paused,omitempty"`
	Release          string `json:"release,omitempty"`
	DeadLetterSeq    uint64 `json:"dead_letter_seq,omitempty"`
	CheckDeadLetters bool   `json:"check_dead_letters,omitempty"`

	Applied uint64 `json:"applied,omitempty"` // ID of the last command that was applied.
}

// later returns the progress that is further on: a checkpoint never falls, whatever is reported.
func later(p, q ownership.Progress) ownership.Progress {
	switch {
	case q.Checkpoint != p.Checkpoint:
		return pick(q.Checkpoint > p.Checkpoint, q, p)
	case q.Attempt != p.Attempt:
		return pick(q.Attempt > p.Attempt, q, p)
	case q.Release != p.Release:
		return pick(len(q.Release) < len(p.Release), q, p)
	case q.CheckDeadLetters != p.CheckDeadLetters:
		return pick(p.CheckDeadLetters, q, p)
	}
	return pick(p.Paused == "", q, p)
}

func pick(first bool, a, b ownership.Progress) ownership.Progress {
	if first {
		return a
	}
	return b
}

func (l Lease) progress() ownership.Progress {
	return ownership.Progress{
		Checkpoint: l.Checkpoint, Attempt: l.Attempt, Paused: l.Paused, Release: l.Release,
		DeadLetterSeq: l.DeadLetterSeq, CheckDeadLetters: l.CheckDeadLetters,
	}
}

// with returns the lease with a lane's progress.
func (l Lease) with(p ownership.Progress) Lease {
	l.Checkpoint, l.Attempt, l.Paused, l.Release = p.Checkpoint, p.Attempt, p.Paused, p.Release
	l.DeadLetterSeq, l.CheckDeadLetters = p.DeadLetterSeq, p.CheckDeadLetters
	return l
}
