// Package testhandler is what the handlers of tests write down. The handlers are the commands below it: program, and
// exec, which is apart because what it measures is the start of a small program.
package testhandler

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"sort"

	"leasehold/internal/harness/monotonic"
)

// Stamp says when a call was answered. Its messages are those of the partition from First to Last.
type Stamp struct {
	Partition   int
	First, Last uint64
	At          int64 // On the clock of package monotonic, in ns, just before the answer was given.
}

// Answered is the stamp of a call that is answered now.
func Answered(partition int, first, last uint64) Stamp {
	return Stamp{partition, first, last, monotonic.Now()}
}

// Stamps is a file of stamps, a line "partition first last time" for each call. Several processes may share it: a line
// is written in one piece. A nil Stamps keeps nothing.
type Stamps struct{ f *os.File }

// OpenStamps opens a file for appending. Without a name it returns nil.
func OpenStamps(name string) (*Stamps, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open stamps: %w", err)
	}
	return &Stamps{f}, nil
}

// Write writes a stamp.
func (l *Stamps) Write(c Stamp) error {
	if l == nil {
		return nil
	}
	if _, err := fmt.Fprintln(l.f, c.Partition, c.First, c.Last, c.At); err != nil {
		return fmt.Errorf("write stamp: %w", err)
	}
	return nil
}

// Times are the stamps of all partitions.
type Times map[int][]Stamp

// ReadStamps reads a file of stamps. A torn last line belongs to a process that was killed, and is left out.
func ReadStamps(r io.Reader) (Times, error) {
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
		var c Stamp
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
