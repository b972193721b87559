package lease

import "fmt"

// What happens after a record that is not valid or went back.
const (
	sessionEnds      = "this node stops its lanes and begins a new session once no earlier one can be alive"
	peerDeclaredDead = "its partitions go to other nodes if it does not write a new session within its ttl"
	leaseReclaimed   = "its owner, or if it has none another node, claims it again under a higher epoch from memory"
	leaseUnknown     = "this node has never seen a valid one, so it does not know the checkpoint: if no other node " +
		"claims the partition, set one with `leasehold seek`"
	commandsKept = "commands that this node remembers stay in force; the next `leasehold pause`, `resume` or `seek` " +
		"writes it again"
)

// fault describes a revision without a valid record, or one that is behind what was known.
func (in Observed) fault() string {
	switch {
	case in.Invalid != "":
		return in.Invalid
	case in.Session == nil && in.Lease == nil && in.Commands == nil:
		return fmt.Sprintf("key %v was deleted at revision %d", in.Key, in.Revision)
	}
	return fmt.Sprintf("key %v went back at revision %d: it is behind what this node has seen before",
		in.Key, in.Revision)
}

// alarm reports a record that something other than a node has written.
func (c *Core) alarm(in Observed, outcome string) {
	a := Alarm{Key: in.Key, Revision: in.Revision, Text: in.fault() + "; " + outcome}
	c.alarms[in.Key] = a
	c.emit(a)
}
