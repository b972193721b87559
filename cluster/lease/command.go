package lease

import (
	"slices"
	"strings"

	"leasehold/internal/ownership"
)

// Kinds of requests.
const (
	Pause   = "pause"   // Handle no message until somebody resumes.
	Resume  = "resume"  // Go on, and give the head message all its attempts again.
	Seek    = "seek"    // Go on after Seq, wherever the partition was.
	Release = "release" // Handle what is parked of the keys, before anything else.
	Restart = "restart" // Begin a new lane, which looks at everything anew.
)

// Request is what a person asked for. It is applied once to each partition that it is for: by the owner, whose lane is
// joined first, or by whoever claims the lease next. Like every change of hands it raises the epoch.
type Command struct {
	ID         uint64 `json:"id"` // Grows within a group, and is never used twice.
	Kind       string `json:"kind"`
	Partitions []int  `json:"partitions,omitempty"` // Empty: all of the group's.
	Seq        uint64 `json:"seq,omitempty"`        // Of a seek: the new Done.
	Keys       string `json:"keys,omitempty"`       // Of a release: keys with blanks between, or AllKeys.
	Reason     string `json:"reason,omitempty"`     // Of a pause; never empty there.
	At         string `json:"at,omitempty"`         // When it was asked for, RFC 3339, by the clock of the node that was asked.
	By         string `json:"by,omitempty"`         // Who asked there, for people: a user and process, or an address.
}

// Covers reports whether the request is for a partition.
func (r Command) Covers(partition int) bool {
	return len(r.Partitions) == 0 || slices.Contains(r.Partitions, partition)
}

// Requests is what was asked of a group and may not have been applied everywhere yet.
type Commands struct {
	Version int       `json:"v"`
	LastID  uint64    `json:"last_id"` // Highest ID ever given.
	Open    []Command `json:"open"`    // By ID.
}

// RequestsKey is the key of a group's requests.
func CommandsKey(group string) Key { return Key{Group: group, Partition: wholeGroup} }

// ofGroup stands in Key.Partition for the record that is the group's as a whole.
const wholeGroup = -1

// due reports whether something was asked of a partition that its lease does not show yet.
func (r Commands) due(partition int, l Lease) bool {
	return slices.ContainsFunc(r.Open, func(q Command) bool { return q.ID > l.Applied && q.Covers(partition) })
}

// seeks reports whether a seek is due, which says where a partition begins whatever it was at before.
func (r Commands) seekDue(partition int, l Lease) bool {
	return slices.ContainsFunc(r.Open, func(q Command) bool { return q.Kind == Seek && q.ID > l.Applied && q.Covers(partition) })
}

// apply returns the lease as it is once everything that is due has been done.
func (r Commands) apply(partition int, l Lease) Lease {
	for _, q := range r.Open {
		if q.ID > l.Applied && q.Covers(partition) {
			l = q.apply(l)
		}
	}
	return l
}

func (r Command) apply(l Lease) Lease {
	l.Applied = r.ID
	switch r.Kind {
	case Pause:
		l.Paused = r.Reason
	case Resume:
		l.Paused = ""
		l = l.allAttempts()
	case Seek:
		l.Checkpoint = r.Seq
		l = l.allAttempts()
	case Release:
		l.Release = addKeys(l.Release, r.Keys)
	}
	return l
}

// allAttempts gives the head message all its attempts again. An owner that died may have parked it without living to store
// more than that they were used up, so the next lane has to look.
func (l Lease) allAttempts() Lease {
	l.CheckDeadLetters = l.CheckDeadLetters || l.Attempt > 0
	l.Attempt = 0
	return l
}

// addKeys adds keys to keys, each once.
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

// sawRequests takes in what is asked of a group.
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
		for _, h := range g.leases {
			c.decide(h)
		}
	}
}

// asked reports whether a lease has a request to apply.
func (h *leaseState) commandDue() bool { return h.group.commands.due(h.key.Partition, h.rec) }
