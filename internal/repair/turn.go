package repair

import (
	"context"
	"errors"
	"fmt"
	"time"

	"leasehold/cluster"
	"leasehold/internal/registry"
)

// turnLimit is after how long another node's turn is over, whatever its record says.
const turnLimit = 10 * time.Minute

// errNotOurTurn is for a node whose turn it is not.
var errNotOurTurn = errors.New("another node is repairing a replica")

// otherTurn is another node's turn, and since when this node has seen it unchanged.
type otherTurn struct {
	turn  registry.RepairTurn
	since time.Time // Zero before the first look.
}

// takeTurn makes it this node's turn, by compare-and-set. A node that dies in its turn cannot do harm by that: as long
// as its replica is not whole again, no other is given up. So its turn just ends after a while.
func (r *Repair) takeTurn(ctx context.Context, other *otherTurn, topic string) error {
	ours := registry.RepairTurn{Version: registry.Version, Server: r.Server, Topic: topic}
	record := r.Registry.RepairTurn()
	err := record.Update(ctx, func(turn *registry.RepairTurn) error {
		if *turn != other.turn {
			other.turn, other.since = *turn, time.Now()
		}
		if turn.Server != "" && turn.Server != ours.Server && time.Since(other.since) < turnLimit {
			return fmt.Errorf("%w: %s that of topic %s", errNotOurTurn, turn.Server, turn.Topic)
		}
		*turn = ours
		return nil
	})
	if isInvalid(err) { // It may have been another node's turn, which ends by itself.
		if other.since.IsZero() || other.turn != (registry.RepairTurn{}) {
			other.turn, other.since = registry.RepairTurn{}, time.Now()
		}
		if time.Since(other.since) >= turnLimit {
			_, err = record.Replace(ctx, ours)
		}
	}
	return err
}

// endTurn lets other nodes have theirs. It returns what it waits for.
func (r *Repair) endTurn(ctx context.Context) []string {
	record := r.Registry.RepairTurn()
	turn, rev, err := record.Read(ctx)
	if isInvalid(err) {
		return nil // what is not valid gives nobody a turn
	}
	if err == nil && rev > 0 && turn.Server == r.Server {
		err = record.Put(ctx, rev, registry.RepairTurn{Version: registry.Version})
	}
	if err != nil {
		return []string{"giving up this node's turn to repair a replica: " + err.Error()}
	}
	return nil
}

func isInvalid(err error) bool { return errors.Is(err, cluster.ErrNotARecord) }
