// Package stamp is how handlers in tests write down when they answered: a line "partition first last time" for a call,
// first and last being the sequences of its messages, and time that of package monotonic.
package stamp

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"sort"

	"leasehold/internal/harness/testcluster/monotonic"
)

// Call is the answer to one call. Its messages are those of the partition from First to Last.
type Call struct {
	Partition   int
	First, Last uint64
	At          int64 // On the monotonic clock, in ns, just before the answer was given.
}

// Answer is a call that is answered now.
func Answer(partition int, first, last uint64) Call {
	return Call{partition, first, last, monotonic.Now()}
}

// Log is where answers go. Several processes may share a file: a line is written in one piece. A nil Log keeps nothing.
type Log struct{ f *os.File }

// Open opens a file for appending. Without a name it returns nil.
func Open(name string) (*Log, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open stamps: %w", err)
	}
	return &Log{f}, nil
}

// Write writes an answer down. After the answer: nobody is to wait for it.
func (l *Log) Write(c Call) error {
	if l == nil {
		return nil
	}
	if _, err := fmt.Fprintln(l.f, c.Partition, c.First, c.Last, c.At); err != nil {
		return fmt.Errorf("write stamp: %w", err)
	}
	return nil
}

// Times are the answers of all partitions.
type Times map[int][]Call

// Read reads a log. A torn last line belongs to a process that was killed, and is left out.
func Read(r io.Reader) (Times, error) {
	times := Times{}
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if err == io.EOF {
			return times, nil
		}
		if err != nil {
			return nil, err
		}
		var c Call
		if _, err := fmt.Sscanln(line, &c.Partition, &c.First, &c.Last, &c.At); err != nil {
			return nil, fmt.Errorf("stamp %q: %w", line, err)
		}
		times[c.Partition] = append(times[c.Partition], c)
	}
}

// Of is when a message was answered; false if it was not. The calls of a partition are in order.
func (t Times) Of(partition int, seq uint64) (at int64, ok bool) {
	calls := t[partition]
	i := sort.Search(len(calls), func(i int) bool { return calls[i].Last >= seq })
	if i == len(calls) || calls[i].First > seq {
		return 0, false
	}
	return calls[i].At, true
}
