package disk

import "leasehold/internal/bytesize"

// watermarks says what happens at which amount of free space: last < least < low < high, in bytes.
//
// Measured is the room: what is free, less the ballast where it has been given up. So it makes no difference to the
// watermark whether the ballast is there, and giving it up does not let publishers in again.
type watermarks struct {
	last    uint64 // With less free than this and no ballast left the broker is stopped.
	least   uint64 // With less free than this the ballast is given up, and without one the broker is not started.
	low     uint64 // With less room than this publishes are refused.
	high    uint64 // Once refused, they are let in again with this much.
	ballast uint64 // Size of the ballast, 0 for none.
}

// What min_free is where the config leaves it open. It has to outlast the second or two from the moment that the mark
// is passed until publishes are refused, and what is still written afterwards: leases, Raft logs, and the replicas that
// a node fetches which was away. A quarter of a gigabyte does, at the speed of the disks this runs on; on a small disk
// that would be half of it, so there it is a twentieth, the share that file systems keep for root.
const (
	usualMinFree = uint64(256 * bytesize.MiB)
	smallDisk    = 20
)

// newWatermarks are the limits of a config on a file system of some size.
func newWatermarks(c Config, size uint64) watermarks {
	low := uint64(c.MinFree)
	if low == 0 {
		low = min(size/smallDisk, usualMinFree)
	}
	return watermarks{last: low / 16, least: low / 4, low: low, high: low + low/2, ballast: uint64(c.Ballast)}
}

// space is what was decided last.
type space struct {
	short   bool // Publishes are refused.
	ballast bool // The ballast is there.
}

// ballastStep is what to do about the ballast.
type ballastStep int

const (
	ballastKeep ballastStep = iota // Leave it as it is.
	ballastDrop                    // Give it up.
	ballastMake                    // Make it.
)

// room is what is free beside a ballast.
func (l watermarks) room(was space, free uint64) uint64 {
	if was.ballast {
		return free
	}
	return free - min(free, l.ballast)
}

// next decides whether publishes are refused, and what is to be done about the ballast.
func (l watermarks) next(was space, free uint64) (short bool, step ballastStep) {
	room := l.room(was, free)
	short = room < l.low || was.short && room < l.high
	switch {
	case was.ballast && free < l.least:
		step = ballastDrop
	case !was.ballast && l.ballast > 0 && room >= l.high:
		step = ballastMake
	}
	return short, step
}

// startable reports whether the broker can be started with what is free.
func (l watermarks) startable(free uint64) bool { return free >= l.least }

// exhausted reports whether the broker has to be stopped while that can still be done in order. It does not bear a full
// disk well: some of its writes, when they fail, deadlock it (nats-server v2.15.2, server/filestore.go: compactLocked →
// flushPendingMsgs → rebuildState takes a lock that it holds). Publishes have long been refused by then, so it is
// something else that fills the disk.
func (l watermarks) exhausted(now space, free uint64) bool { return free < l.last && !now.ballast }
