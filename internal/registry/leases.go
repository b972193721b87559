package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"leasehold/cluster"
	"leasehold/cluster/lease"
)

// Leases reads a group's leases by partition; those never written are free and start after startAfter. With an error
// about leases that are not valid records, the others are there.
func Leases(ctx context.Context, kv *cluster.KV, group string, partitions int,
	startAfter uint64) ([]lease.Lease, error) {
	all := make([]lease.Lease, partitions)
	for p := range all {
		all[p].Checkpoint = startAfter
	}
	records, err := kv.Leases(ctx, group, partitions)
	for _, s := range records {
		switch {
		case s.Invalid != "":
			err = errors.Join(err, fmt.Errorf("%w: %s", cluster.ErrNotARecord, s.Invalid))
		case s.Lease != nil && s.Key.Partition < partitions:
			all[s.Key.Partition] = *s.Lease
		}
	}
	return all, err
}

// FinishedAll is the sequence up to which every partition has finished everything; startAfter if there is no partition.
func FinishedAll(all []lease.Lease, startAfter uint64) uint64 {
	if len(all) == 0 {
		return startAfter
	}
	return slices.MinFunc(all, func(a, b lease.Lease) int { return cmp.Compare(a.Checkpoint, b.Checkpoint) }).Checkpoint
}
