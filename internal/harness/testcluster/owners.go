package testcluster

import (
	"fmt"
	"maps"
	"slices"
)

// Owners is who owns each partition, and under which epoch.
type Owners []PartitionStatus

// Owners waits until all running nodes say the same, and that is complete.
func (c *Cluster) Owners(group string) Owners {
	c.T.Helper()
	var all Owners
	Eventually(c.T, MoveLimit, func() error {
		all = nil
		for _, n := range c.Running() {
			s, err := n.Status()
			if err != nil {
				return err
			}
			seen := Owners(s.Group(group).Partitions)
			if all == nil {
				all = seen
			}
			if err := all.Agree(seen); err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
		}
		return nil
	})
	return all
}

// Agree is nil if both are complete and say the same.
func (o Owners) Agree(other Owners) error {
	if len(o) == 0 || len(o) != len(other) {
		return fmt.Errorf("shows %d partitions, another node %d", len(other), len(o))
	}
	for p := range o {
		if o[p].Owner == "" || o[p].Owner != other[p].Owner || o[p].Epoch != other[p].Epoch {
			return fmt.Errorf("partition %d is of %q under epoch %d; another node says %q, %d",
				p, other[p].Owner, other[p].Epoch, o[p].Owner, o[p].Epoch)
		}
	}
	return nil
}

// Of counts what the node owns.
func (o Owners) Of(node string) int { return GroupStatus{Partitions: o}.Owned(node) }

// Claims counts how often partitions were claimed between two looks: each
// claim takes one epoch, so that there and back counts twice.
func (o Owners) Claims(later Owners) int {
	n := 0
	for p := range o {
		n += int(later[p].Epoch - o[p].Epoch)
	}
	return n
}

// SameOwners is nil if nothing was claimed between the two looks.
func SameOwners(before, after Owners) error {
	changed := make(map[string]int)
	for p := range before {
		if b, a := before[p], after[p]; a.Owner != b.Owner || a.Epoch != b.Epoch {
			changed[fmt.Sprintf("%s → %s", b.Owner, a.Owner)]++
		}
	}
	if len(changed) == 0 {
		return nil
	}
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(changed)) {
		kinds = append(kinds, fmt.Sprintf("%d %s", changed[kind], kind))
	}
	return fmt.Errorf("partitions were claimed: %v", kinds)
}
