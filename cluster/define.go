package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Define stores a definition under a key of its own, such as "topic.orders", unless there is one already, and decodes
// what is stored, ours or an earlier one, into stored. It tries until ctx ends.
//
// The first to define wins for good; whoever has another definition in its config compares and refuses.
func (s *KV) Define(ctx context.Context, key string, definition, stored any) error {
	for {
		_, err := s.put(ctx, key, 0, definition)
		var rev uint64
		var data []byte
		if err == nil || errors.Is(err, ErrConflict) {
			rev, data, err = s.get(ctx, key)
		}
		if err == nil && rev > 0 {
			if err := json.Unmarshal(data, stored); err != nil {
				return fmt.Errorf("definition %s at revision %d: %w", key, rev, err)
			}
			return nil
		}
		if !sleep(ctx, 100*time.Millisecond) {
			return fmt.Errorf("define %s: %w", key, errors.Join(err, ctx.Err()))
		}
	}
}

// Update changes a record of this node's choosing: it decodes what is stored under key into value, calls change, and
// stores value on that revision. An error leaves open whether it was stored.
func (s *KV) Update(ctx context.Context, key string, value any, change func() error) error {
	rev, data, err := s.get(ctx, key)
	if err != nil {
		return err
	}
	if len(data) > 0 {
		if err := json.Unmarshal(data, value); err != nil {
			return fmt.Errorf("record %s at revision %d: %w", key, rev, err)
		}
	}
	if err := change(); err != nil {
		return err
	}
	_, err = s.put(ctx, key, rev, value)
	return err
}
