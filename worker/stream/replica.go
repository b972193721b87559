package stream

import "time"

// Replica is a node's own replica of a topic's or a group's stream, read without its leader.
type Replica interface {
	// Span returns the first and the last sequence.
	Span() (first, last uint64)
	// Next returns the first message at or after a sequence whose subject matches, or io.EOF.
	Next(filter string, from uint64) (ReplicaMessage, error)
	// Count returns how many messages at or after a sequence match.
	Count(filter string, from uint64) (uint64, error)
	// FirstAt returns the sequence of the first message stored at or after a time.
	FirstAt(at time.Time) uint64
}

// ReplicaMessage is one stored message.
type ReplicaMessage struct {
	Seq     uint64
	Subject string
	Header  map[string][]string
	Data    []byte
	Stored  time.Time
}
