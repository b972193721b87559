package lease

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// RecordVersion is the version of every record that this program writes and understands.
const RecordVersion = 1

// Bounds of what a node can have written. A counter near the end of its range leaves no room for the next value. A
// session with a ttl of days could not be declared dead before, and would keep its partitions as long.
const (
	maxCounter = math.MaxUint64 - 1<<40
	maxTTL     = time.Hour
)

// Valid returns why no node can have written this session under its key, or nil.
func (s Session) Valid(k Key) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(s.Version == RecordVersion, "v is %d, not %d", s.Version, RecordVersion)
	check(s.Node == k.Node, "node is %q, the key says %q", s.Node, k.Node)
	check(s.Boot > 0 && s.Boot < maxCounter, "boot %d is out of range", s.Boot)
	check(s.State == Live || s.State == Dead || s.State == Ended, "unknown state %q", s.State)
	check((s.State == Live) == (s.Nonce != "") || s.State == Ended, "state %q with nonce %q", s.State, s.Nonce)
	check(s.TTL > 0 && s.TTL <= maxTTL, "ttl_ns %d is out of range", s.TTL)
	check(s.Weight > 0 || s.Weight == 0 && s.State != Live, "weight %d is out of range", s.Weight)
	return errors.Join(errs...)
}

// Valid returns why no node can have written this lease, or nil.
func (l Lease) Valid() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(l.Version == RecordVersion, "v is %d, not %d", l.Version, RecordVersion)
	check((l.Owner == "") == (l.Boot == 0), "owner %q with boot %d", l.Owner, l.Boot)
	check(l.Boot < maxCounter, "boot %d is out of range", l.Boot)
	check(l.Epoch > 0 && l.Epoch < maxCounter, "epoch %d is out of range", l.Epoch)
	check(l.Checkpoint < maxCounter, "checkpoint %d is out of range", l.Checkpoint)
	check(l.Attempt >= 0, "attempt %d is out of range", l.Attempt)
	return errors.Join(errs...)
}

// Valid returns why no node can have written these commands, or nil.
func (c Commands) Valid() error {
	if c.Version != RecordVersion {
		return fmt.Errorf("v is %d, not %d", c.Version, RecordVersion)
	}
	if c.LastID == 0 || c.LastID >= maxCounter {
		return fmt.Errorf("last_id %d is out of range", c.LastID)
	}
	last := uint64(0)
	for _, cmd := range c.Open {
		if cmd.ID <= last || cmd.ID > c.LastID {
			return fmt.Errorf("command %d follows %d of %d", cmd.ID, last, c.LastID)
		}
		last = cmd.ID
		if err := cmd.valid(); err != nil {
			return fmt.Errorf("command %d: %w", cmd.ID, err)
		}
	}
	return nil
}

func (c Command) valid() error {
	for _, p := range c.Partitions {
		if p < 0 {
			return fmt.Errorf("partition %d is out of range", p)
		}
	}
	switch c.Kind {
	case Pause:
		if c.Reason == "" {
			return errors.New("a pause without a reason")
		}
	case Resume, Seek, Release, Restart:
	default:
		return fmt.Errorf("unknown kind %q", c.Kind)
	}
	return nil
}
