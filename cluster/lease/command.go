package lease

import (
	"slices"
	"strings"

	"leasehold/internal/ownership"
)

// Kinds of commands.
const (
	Pause   = "pause"   // Handle no message until a resume.
	Resume  = "resume"  // Continue, and give the head message all its attempts again.
	Seek    = "seek"    // Continue after Seq, wherever the partition was.
	Release = "release" // Handle the parked messages of the keys, before anything else.
	Restart = "restart" // Start a new lane, which reads its whole state again.
)

// Command is what an operator asked for. It is applied once to each partition that it covers: by the owner, once its
// lane is joined, or by the next node to claim the lease. Like every change of ownership it raises the epoch.
type Command struct {
	ID         uint64 `json:"id"` // Grows within a group, and is never used twice.
	Kind       string `json:"kind"`
	Partitions []int  `json:"partitions,omitempty"` // Empty: all of the group's.
	Seq        uint64 `json:"seq,omitempty"`        // Of a seek: the new checkpoint.
	Keys       string `json:"keys,omitempty"`       // Of a release: keys separated by blanks, or AllKeys.
	Reason     string `json:"reason,omitempty"`     // Of a pause; never empty there.
	At         string `json:"at,omitempty"`         // When a node accepted it, RFC 3339, by that node's clock.
	By         string `json:"by,omitempty"`         // Who issued it, for display: a user and process, or an address.
}

// Covers reports whether the command applies to a partition.
func (c Command) Covers(partition int) bool {
	return len(c.Partitions) == 0 || slices.Contains(c.Partitions, partition)
}

// Commands are those of a group that may not have been applied everywhere yet.
type Commands struct {
	Version int       `json:"v"`
	LastID  uint64    `json:"last_id"` // Highest ID ever assigned.
	Open    []Command `json:"open"`    // By ID.
}

// CommandsKey is the key of a group's commands.
func CommandsKey(group string) Key { return Key{Group: group, Partition: wholeGroup} }

// wholeGroup in Key.Partition stands for the record of the whole group.
const wholeGroup = -1

// due reports whether a command has not been applied to a partition's lease yet.
func (c Commands) due(partition int, l Lease) bool {
	return slices.ContainsFunc(c.Open, func(cmd Command) bool { return cmd.ID > l.Applied && cmd.Covers(partition) })
}

// seekDue reports whether a seek is due. It says where a partition begins, whatever its checkpoint was.
func (c Commands) seekDue(partition int, l Lease) bool {
	return slices.ContainsFunc(c.Open, func(cmd Command) bool {
		return cmd.Kind == Seek && cmd.ID > l.Applied && cmd.Covers(partition)
	})
}

// apply returns the lease with every command that is due applied.
func (c Commands) apply(partition int, l Lease) Lease {
	for _, cmd := range c.Open {
		if cmd.ID > l.Applied && cmd.Covers(partition) {
			l = cmd.apply(l)
		}
	}
	return l
}

func (c Command) apply(l Lease) Lease {
	l.Applied = c.ID
	switch c.Kind {
	case Pause:
		l.Paused = c.Reason
	case Resume:
		l.Paused = ""
		l = l.allAttempts()
	case Seek:
		l.Checkpoint = c.Seq
		l = l.allAttempts()
	case Release:
		l.Release = addKeys(l.Release, c.Keys)
	}
	return l
}

// allAttempts gives the head message all its attempts again. An owner may have parked the message and died before it
// stored more than the attempts used, so the next lane has to check for dead letters.
func (l Lease) allAttempts() Lease {
	l.CheckDeadLetters = l.CheckDeadLetters || l.Attempt > 0
	l.Attempt = 0
	return l
}

// addKeys returns keys and more as one list, separated by blanks, each key once.
func addKeys(keys, more string) string {
	all := strings.Fields(keys)
	for _, k := range strings.Fields(more) {
		if !slices.Contains(all, k) {
			all = append(all, k)
		}
	}
	if slices.Contains(all, ownership.AllKeys) {
		return ownership.AllKeys
	}
	return strings.Join(all, " ")
}

// observedCommands takes in the commands of a group.
func (c *Core) observedCommands(in Observed) {
	for _, g := range c.groups {
		if g.Name != in.Key.Group || in.Revision <= g.commandsRev {
			continue
		}
		g.commandsRev = in.Revision
		if in.Commands == nil || in.Commands.LastID < g.commands.LastID {
			c.alarm(in, commandsKept)
			return
		}
		g.commands = *in.Commands
		for _, ls := range g.leases {
			c.decide(ls)
		}
	}
}

// commandDue reports whether a lease has a command to apply.
func (ls *leaseState) commandDue() bool { return ls.group.commands.due(ls.key.Partition, ls.rec) }
