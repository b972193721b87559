package lane

import (
	"context"
	"maps"
	"slices"

	"leasehold/internal/ownership"
	"leasehold/partitioner"
	"leasehold/worker/deadletter"
)

// parkedKeys are the keys whose messages become dead letters without a call, because an earlier message of the key is
// parked. Only the lane's goroutine uses them; the ledger has their number.
type parkedKeys struct {
	keys   map[partitioner.LetterKey]bool // nil until the first is parked.
	ledger *ledger
	dead   *deadLetterer
}

// add notes that messages of a key are dead-lettered from now on.
func (p *parkedKeys) add(key partitioner.LetterKey) {
	if p.keys == nil {
		p.keys = map[partitioner.LetterKey]bool{}
	}
	p.keys[key] = true
	p.ledger.setParkedKeys(len(p.keys))
}

func (p *parkedKeys) remove(key partitioner.LetterKey) {
	delete(p.keys, key)
	p.ledger.setParkedKeys(len(p.keys))
}

// has reports whether messages of a key become dead letters without a call.
func (p *parkedKeys) has(key string) bool {
	return len(p.keys) > 0 && p.keys[partitioner.NewLetterKey(key)]
}

func (p *parkedKeys) sorted() []partitioner.LetterKey { return slices.Sorted(maps.Keys(p.keys)) }

// load reads which keys of the partition are parked. It returns false if the lane ends first.
//
// Where no message was ever dead-lettered there is nothing to read, and a takeover need not wait for the leader of
// one more stream. An owner that parks its first message and dies has stored before that the attempts are used up: the
// grant says so. The attempt limit may have been another then; and a resume or a seek clears the attempts, but sets
// CheckDeadLetters.
func (p *parkedKeys) load(g *ownership.Grant) bool {
	never := g.DeadLetterSeq == 0 && g.Attempt == 0 && !g.CheckDeadLetters && g.Release == ""
	if p.dead.o.DeadLetters == nil || never {
		return true
	}
	return p.dead.retryOrBlock("look for parked keys", func(ctx context.Context) error {
		found, last, err := p.dead.o.DeadLetters.Parked(ctx, g.Partition, g.DeadLetterSeq)
		if err == nil {
			p.loaded(found, last)
		}
		return err
	})
}

// loaded takes in which keys are parked, as the dead letters up to last have it.
func (p *parkedKeys) loaded(found deadletter.Places, last uint64) {
	for key := range found {
		p.add(key)
	}
	p.ledger.parkedLoaded(len(found) > 0, last)
}
