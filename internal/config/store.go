package config

import (
	"leasehold/internal/bytesize"
)

// Bounds of what shareStore gives to whoever asks for nothing.
const (
	minShare = 8 * bytesize.MiB   // Less holds only a few messages of the largest size.
	maxDLQ   = 256 * bytesize.MiB // Dead letters are few, or something is wrong.
)

// share is somebody's part of the store: what the file says, 0 for none.
type share struct {
	size *bytesize.Size
	path string // In the file.
	name string // For people.
	most bytesize.Size
}

func (c *Config) shares() []share {
	var all []share
	for i := range c.Groups {
		all = append(all, share{&c.Groups[i].DLQMaxBytes, element("group", i), "group." + c.Groups[i].Name + ".dlq_max_bytes", maxDLQ})
	}
	for i := range c.Topics {
		all = append(all, share{&c.Topics[i].MaxBytes, element("topic", i), "topic." + c.Topics[i].Name + ".max_bytes", c.Server.MaxStore})
	}
	return all
}

// shareStore gives every topic without max_bytes, and every group without dlq_max_bytes, an even share of what the others
// and the reserve leave (dead letters at most maxDLQ), and refuses a config that could fill the store: at the store's own
// limit leases could not be renewed either.
func (c *Config) shareStore(f *faults) {
	var fixed bytesize.Size
	var open []share
	for _, s := range c.shares() {
		if *s.size == 0 {
			open = append(open, s)
		}
		fixed += max(*s.size, 0)
	}
	left := c.Server.MaxStore - c.Reserve() - fixed
	switch {
	case c.Server.MaxStore < minReserve: // Server's own check says so.
	case left < 0:
		f.add("server.max_store", "server.max_store: the topics' max_bytes and the groups' dlq_max_bytes (%s together) and the reserve (%s) "+
			"are more than max_store (%s); raise max_store or lower them", fixed, c.Reserve(), c.Server.MaxStore)
	default:
		c.shareOut(f, open, left, fixed)
	}
}

// shareOut divides what is left. Those come first that take no more than so much, so that the others get what they leave.
func (c *Config) shareOut(f *faults, open []share, left, fixed bytesize.Size) {
	var even bytesize.Size
	again := true // The last one left something to the others.
	for i, s := range open {
		if again {
			even = left / bytesize.Size(len(open)-i) / bytesize.MiB * bytesize.MiB
		}
		if even < minShare {
			f.add(s.path, "%s: an even share of max_store (%s) less the reserve (%s) and what others have (%s) "+
				"would be %s, less than %s; raise server.max_store", s.name, c.Server.MaxStore, c.Reserve(), fixed, even, minShare)
			return
		}
		*s.size = min(even, s.most)
		left -= *s.size
		again = *s.size < even
	}
}
