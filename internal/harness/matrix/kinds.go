package matrix

import "strings"

// Kind is a kind of fault, as the table counts them: what was struck and how, under one name wherever it is done. Those
// of a wave, which come on top of one another, are counted apart.
type Kind string

// class is what a soak wants enough of: a kind, and in one the damage to files of all kinds, or what a wave is made of.
func (k Kind) class() string {
	class, _, several := strings.Cut(string(k), ": ")
	if several && (class == rotFlip || class == rotTruncate || class == inWave) {
		return class
	}
	return string(k)
}

// Processes are killed and stopped.
const (
	killFollower Kind = "kill -9: follower"
	killLeader   Kind = "kill -9: leader"
	killBackSoon Kind = "kill -9: back within the ttl"
	killTwo      Kind = "kill -9: two of three"
	killAll      Kind = "kill -9: all at once"
	killLoop     Kind = "kill -9: again and again"
	killDeaf     Kind = "kill -9: handlers deaf to it"
	killOrphans  Kind = "kill -9: handlers live on"
	termOne      Kind = "SIGTERM"
	termRolling  Kind = "SIGTERM: rolling restart"
)

// Members come and go, or are too few.
const (
	joined   Kind = "join, another node killed meanwhile"
	left     Kind = "leave and removal, another node killed meanwhile"
	noQuorum Kind = "no quorum for three ttls"
)

// Power and disks.
const (
	powerOfAll    Kind = "power loss: all at once"
	powerOfOne    Kind = "power loss: one"
	powerOfPaused Kind = "power loss: one, the others frozen in turns"
	powerUnsafe   Kind = "power loss: all at once, process-safe"
	diskFull      Kind = "disk full: one"
	diskFullAll   Kind = "disk full: all"
	diskDead      Kind = "disk dead"
	diskReadOnly  Kind = "disk read-only"
	diskWiped     Kind = "disk wiped"
	diskStale     Kind = "disk goes back in time"
	diskThrottled Kind = "disk slow: 20 writes a second"
	fsyncOnce     Kind = "fsync fails: once"
	fsyncFails    Kind = "fsync fails: for 20 s"
	fsyncLies     Kind = "fsync lies, then power loss"
	rotBehind     Kind = "flip in a backlog"
	rotReplayed   Kind = "flip in what is replayed"
)

// fsyncSlow is that each fsync takes so much longer.
func fsyncSlow(by string) Kind { return Kind("fsync slow: " + by) }

// How a file is damaged.
const (
	rotFlip     = "flip"
	rotTruncate = "truncate"
)

// rotOf is damage to a kind of file.
func rotOf(how, file string) Kind { return Kind(how + ": " + file) }

// Networks.
const (
	cutLeader   Kind = "cut off: leader"
	cutMinute   Kind = "cut off: for a minute"
	cutServing  Kind = "cut off: node that serves the publisher"
	cutDiverged Kind = "cut off: leader, with writes that nobody confirms"
	cutTTLs     Kind = "cut off: for three ttls"
	unheard     Kind = "cut off: not heard by the others"
	deaf        Kind = "cut off: does not hear the others"
	cutPair     Kind = "cut off: two of three from each other"
	flapped     Kind = "cut off: for 2 to 8 s, again and again"
	unplugged   Kind = "cut off: cable unplugged"
	cutClients  Kind = "cut off: clients from all nodes"
	lossy       Kind = "packets lost: 30 %"
	farApart    Kind = "slow network: 50 ms ± 20 each way, 2 % lost, out of order"
	slowLink    Kind = "slow network: 1 Mbit/s for a node that catches up"
	refused     Kind = "refused: connections stay"
	refusedCut  Kind = "refused: connections reset"
	refusedBoth Kind = "refused: both ways, connections reset"
)

// Time and memory that processes have.
const (
	frozenShort    Kind = "freeze: node and handlers, within the ttl"
	frozenLong     Kind = "freeze: node and handlers, past the ttl"
	frozenNode     Kind = "freeze: node alone"
	frozenHandlers Kind = "freeze: handlers alone"
	frozenTimeout  Kind = "freeze: handlers alone, past their timeout"
	starvedOne     Kind = "starved: one, a tenth of a core"
	starvedAll     Kind = "starved: all, a tenth of a core each"
	outOfMemory    Kind = "out of memory"
	outOfFiles     Kind = "out of files"
	crashLoop      Kind = "handler that ends at once, again and again"
)

// Clocks.
const (
	wallAhead  Kind = "wall clock: an hour ahead"
	wallBehind Kind = "wall clock: an hour behind"
	wallDrift  Kind = "wall clock: gains 100 ms a second"
	bootJump   Kind = "boot-time clock: jumps ahead"
)

// inWave is what a wave is made of.
const inWave = "wave"

// Clients.
const (
	attacked      Kind = "hostile clients, 256 MiB of memory each"
	littleMemory  Kind = "hostile bytes, 256 MiB of memory"
	largeMessages Kind = "messages of 1 MB, 256 MiB of memory"
	idleClients   Kind = "idle clients: 10,000"
	clientStorm   Kind = "client storm: 10,000"
)
