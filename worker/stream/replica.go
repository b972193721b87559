package stream

import "time"

// Replica is a node's own replica of a topic's or a group's stream, read without its leader.
type Replica interface {
	// Span is its first and its last sequence.
	Span() (first, last uint64)
	// Next is the first message at or behind a sequence whose subject matches, or io.EOF.
	Next(filter string, from uint64) (ReplicaMessage, error)
	// Count counts those that match at and behind a sequence.
	Count(filter string, from uint64) (uint64, error)
	// FirstAt is the sequence of the first message stored at or after a moment.
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
