package config

import (
	"leasehold/internal/bytesize"
	"leasehold/partitioner/stream"
)

// Parts of server.max_store that a new topic, and the dead letters of a new group, get where the config states no size.
// They depend on nothing else in the file: a topic more or less changes no other.
const (
	topicShare = 8
	dlqShare   = 32
	maxDLQ     = 256 * bytesize.MiB // Dead letters are few, or something is wrong.
)

// DefaultMaxBytes is the size of a new topic without max_bytes.
func (c *Config) DefaultMaxBytes() bytesize.Size {
	return max(c.Server.MaxStore/topicShare, stream.MinBytes)
}

// DefaultDLQMaxBytes is the size of a new group's dead letters without dlq_max_bytes.
func (c *Config) DefaultDLQMaxBytes() bytesize.Size {
	return max(min(c.Server.MaxStore/dlqShare, maxDLQ), stream.MinBytes)
}

// checkStore refuses sizes that contradict max_store. What else is stored is not known here: CheckStored compares with
// that.
func (c *Config) checkStore(f *faults) {
	if c.Server.MaxStore < minReserve { // Server's own check says so.
		return
	}
	var sum bytesize.Size
	for _, t := range c.Topics {
		sum += max(t.MaxBytes, 0)
	}
	for _, g := range c.Groups {
		sum += max(g.DLQMaxBytes, 0)
	}
	if sum+c.Reserve() > c.Server.MaxStore {
		f.add("server.max_store",
			"server.max_store: the topics' max_bytes and the groups' dlq_max_bytes (%s together) and the reserve (%s) "+
				"are more than max_store (%s); raise max_store or lower them", sum, c.Reserve(), c.Server.MaxStore)
	}
}
