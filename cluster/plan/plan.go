// Package plan decides which member should own which partition of a group.
//
// It is a pure function of what everybody can see: the members and who owns what now. Every node computes it for
// itself and compare-and-set on the leases decides, so a plan made from an old view costs balance for a moment and
// never safety. What it promises:
//
//   - balanced: by equal weights, two members' shares differ by one partition at most;
//   - sticky: a partition stays where it is unless its owner is gone or has more than its share, so no more partitions
//     move than the balance asks for;
//   - stable while half-done: planning again after any part of the plan has happened gives the same plan. Nodes see
//     each other's moves at different times, and without this they would send partitions in circles.
package plan

import (
	"cmp"
	"slices"
)

// Member is a live node that serves the group.
type Member struct {
	Name   string
	Weight int // Share relative to the others; below 1 counts as 1.
}

// Assign returns the member that should own each partition: its result at index p is a member's name, or "" if there
// are no members. owners[p] is the member that owns partition p now, "" or any other name if nobody alive does.
// Members may come in any order; of two with one name the first counts.
func Assign(members []Member, owners []string) []string {
	target := make([]string, len(owners))
	ms := normalize(members)
	if len(ms) == 0 {
		return target
	}
	quota := quotas(ms, owners)
	var pool []int
	for p, owner := range owners {
		if quota[owner] > 0 {
			target[p] = owner
			quota[owner]--
		} else {
			pool = append(pool, p)
		}
	}
	// Partition by partition in order, member by member in order: taking away a partition together with the place it
	// fills leaves every other pair as it was, which is what makes a half-done plan go on unchanged.
	for _, m := range ms {
		n := quota[m.Name]
		for _, p := range pool[:n] {
			target[p] = m.Name
		}
		pool = pool[n:]
	}
	return target
}

// normalize sorts members by name, drops doubles and lifts weights to 1.
func normalize(members []Member) []Member {
	ms := slices.Clone(members)
	slices.SortStableFunc(ms, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	ms = slices.CompactFunc(ms, func(a, b Member) bool { return a.Name == b.Name })
	for i := range ms {
		ms[i].Weight = max(ms[i].Weight, 1)
	}
	return ms
}

// quotas returns how many partitions each member shall own: its weight's share rounded down, and one more for as many
// members as the rounding left partitions over.
//
// Those extra ones go to members that own more than their rounded share already (in order of names), then to the others
// (in order of names). Owning more is looked at as yes or no, never as how much: the busiest member changes while a
// plan is carried out, whereas a member that was given an extra place keeps "more than its share" to the end, and one
// that was not never gets there.
func quotas(ms []Member, owners []string) map[string]int {
	total := 0
	for _, m := range ms {
		total += m.Weight
	}
	owned := make(map[string]int, len(ms))
	for _, o := range owners {
		owned[o]++
	}
	quota := make(map[string]int, len(ms))
	left := len(owners)
	for _, m := range ms {
		quota[m.Name] = len(owners) * m.Weight / total
		left -= quota[m.Name]
	}
	for _, over := range []bool{true, false} {
		for _, m := range ms {
			base := len(owners) * m.Weight / total
			if left > 0 && (owned[m.Name] > base) == over {
				quota[m.Name]++
				left--
			}
		}
	}
	return quota
}
