package attack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"leasehold/internal/harness/scenario"
	"leasehold/internal/harness/testcluster"
)

var (
	attackFlag   = flag.Int("attacks", 1, "how many times longer and wider the floods of TestLongAttacks are")
	attackedFlag = flag.String("attacked", "", "another build of the agent for TestLongAttacks to attack")
)

// TestLongAttacks: what once stopped partitions, nodes or clusters is sent again, and more of its kind, to a node on
// its own and to a cluster. All of it is answered, nothing of it moves a partition, and no node takes more memory than
// it may.
func TestLongAttacks(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	var rows []attackRow
	defer func() { t.Log(attackTable(rows)) }()
	for _, nodes := range []int{1, 3} {
		t.Run(map[int]string{1: "single", 3: "cluster"}[nodes], func(t *testing.T) {
			a := newArena(t, nodes)
			defer func() { rows = append(rows, a.rows...) }()
			for _, k := range attackKinds {
				t.Run(k.id, func(t *testing.T) { a.as(t, func() { a.attack(k) }) })
			}
			a.restart()
		})
	}
}

// attackKind is a kind of attack, named after the fault that it was.
type attackKind struct {
	id   string
	grow int // MiB that the attacked node may take more than before, at most
	run  func(*arena)
}

// attackKinds are in the order of the table.
var attackKinds = []attackKind{
	{"C1 smuggled headers", quiet, (*arena).smuggledHeaders},
	{"C1 smuggled over HTTP", quiet, (*arena).smuggledOverHTTP},
	{"C1 smuggled by a service", quiet, (*arena).smuggledByService},
	{"C2, F1 long keys, dead-lettered", quiet, (*arena).longKeys},
	{"C3, F1 long subjects and replies", quiet, (*arena).longSubjects},
	{"H1 wrong passwords", quiet, (*arena).wrongPasswords},
	{"H2 floods", flooded, (*arena).floods},
	{"H3, F9 headers of letters", quiet, (*arena).headersOfLetters},
	{"H4 handlers broken by messages", quiet, (*arena).brokenByMessages},
	{"H5 long message ids", quiet, (*arena).longIDs},
	{"H6 wildcards", quiet, (*arena).wildcards},
	{"M5 connections and subscriptions", quiet, (*arena).connections},
	{"M7 printed payloads", quiet, (*arena).printedPayloads},
	{"M8 malformed messages", quiet, (*arena).malformed},
	{"F10 requeue", quiet, (*arena).requeued},
	{"F11 slow bodies", quiet, (*arena).slowBodies},
}

// Memory that an attack may cost, in MiB: garbage that was not collected yet, and what the node holds of a flood.
const (
	quiet   = 150
	flooded = 400
)

// arena is a node or a cluster under attack.
type arena struct {
	*testcluster.Cluster
	mode, id string
	tls      bool
	node     *testcluster.Node // The attacked one.
	webhook  *receiver
	small    *receiver // Takes no long headers.
	seq      uint64    // Of the message that was stored last.
	most     int       // MiB, of peaks in this attack that were forgotten.
	rows     []attackRow
}

// attackRow is a line of the table: something sent, or what all of a kind cost.
type attackRow struct {
	mode, id, sent, answered string
	cost                     *attackCost
}

// standing is how a node stands at a moment.
type standing struct {
	rss     int // MiB
	session uint64
	owners  map[string]testcluster.Owners // By group.
}

// attackCost is what a kind of attack cost the attacked node.
type attackCost struct {
	before, after standing
	peak          int // MiB
	unready       time.Duration
	took          time.Duration
	owned, claims int // Partitions.
}

// as does something for a part of the test.
func (a *arena) as(t testing.TB, do func()) {
	whole := a.T
	defer func() { a.T = whole }()
	a.T = t
	do()
}

// attack runs one kind of attack and measures it.
func (a *arena) attack(k attackKind) {
	a.T.Helper()
	a.id = k.id
	before, begun := a.stand(), time.Now()
	a.forgetPeak()
	a.most = 0
	w := scenario.WatchNodes(a.T, a.Cluster)
	k.run(a)
	c := attackCost{before: before, took: time.Since(begun)}
	a.survives(before.session)
	w.End()
	c.after, c.peak, c.unready = a.stand(), max(a.peak(), a.most), w.Unready[a.node.Name]
	for group, owners := range c.after.owners {
		c.owned += owners.Of(a.node.Name)
		c.claims += before.owners[group].Claims(owners)
	}
	a.rows = append(a.rows, attackRow{mode: a.mode, id: a.id, sent: "ALL OF IT", cost: &c})
	a.judge(k, c)
}

// peak is the most resident memory that the node had since forgetPeak, in MiB.
func (a *arena) peak() int { return a.node.ProcNumber("status", "VmHWM:") / 1024 }

func (a *arena) forgetPeak() {
	a.T.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", a.node.PID()), []byte("5"), 0); err != nil {
		a.T.Fatal(err) // 5 resets VmHWM, proc(5) says.
	}
}

// judge holds what an attack cost against what it may.
func (a *arena) judge(k attackKind, c attackCost) {
	a.T.Helper()
	if c.claims > 0 {
		a.T.Errorf("%s %s: %d partitions were claimed", a.mode, k.id, c.claims)
	}
	if grown := c.peak - c.before.rss; grown > k.grow {
		a.T.Errorf("%s %s: %s came from %d to %d MiB of memory", a.mode, k.id, a.node.Name, c.before.rss, c.peak)
	}
	if c.unready > scenario.UnreadyLimit {
		a.T.Errorf("%s %s: %s was not ready for %s", a.mode, k.id, a.node.Name, c.unready)
	}
}

// survives waits until the node is ready, has renewed its session since, and takes a message.
func (a *arena) survives(session uint64) {
	a.T.Helper()
	testcluster.Eventually(a.T, testcluster.MoveLimit, func() error {
		for _, n := range a.Nodes {
			select {
			case <-n.Exited():
				a.T.Fatalf("%s %s: %s exited: %v", a.mode, a.id, n.Name, n.ExitError())
			default:
			}
			if err := n.Ready(); err != nil {
				return err
			}
		}
		if now := a.session(); now <= session {
			return fmt.Errorf("the session of %s stays at revision %d", a.node.Name, now)
		}
		return nil
	})
	a.note("a good message afterwards", a.ask(pub("events.good", "200")), stored)
}

// stand looks at the node.
func (a *arena) stand() standing {
	a.T.Helper()
	s := standing{session: a.session(), rss: a.node.Usage().RSS, owners: map[string]testcluster.Owners{}}
	for _, g := range a.Spec.Groups {
		s.owners[g.Name] = a.Owners(g.Name)
	}
	return s
}

// session is the revision of the node's session record, as its own copy of the bucket has it: the sequence of the
// newest record on disk. It moves with every renewal.
func (a *arena) session() uint64 {
	a.T.Helper()
	files, err := filepath.Glob(filepath.Join(a.node.DataDir(), "jetstream", "*", "streams", "KV_leasehold", "msgs",
		"*.blk"))
	if err != nil || len(files) == 0 {
		a.T.Fatalf("no copy of the bucket in %s: %v", a.node.DataDir(), err)
	}
	var newest uint64
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			a.T.Fatal(err)
		}
		newest = max(newest, newestOf(data, "$KV.leasehold.session."+a.node.Name))
	}
	return newest
}

// newestOf is the highest sequence of a subject in a block of nats-server's file store (filestore.go,
// writeMsgRecordLocked): four bytes of length, eight of sequence, eight of time and two of the subject's length stand
// before a subject.
func newestOf(data []byte, subject string) (newest uint64) {
	for at := 0; ; {
		i := bytes.Index(data[at:], []byte(subject))
		if i < 0 {
			return newest
		}
		at += i
		if at >= 22 && int(binary.LittleEndian.Uint16(data[at-2:])) == len(subject) {
			newest = max(newest, binary.LittleEndian.Uint64(data[at-18:]))
		}
		at += len(subject)
	}
}

// restart stops the attacked node in order and starts it again: what it has stored must be fit to start with.
func (a *arena) restart() {
	a.T.Helper()
	a.id = "restart"
	a.node.Term()
	a.node.Start()
	a.WaitReady(testcluster.StartLimit)
	if log := a.node.Log(); strings.Contains(log, "corrupt") {
		a.T.Errorf("%s: the broker finds its store damaged by what was sent: see the log of %s", a.mode, a.node.Name)
	}
	a.note("a good message after a restart", a.ask(pub("events.good", "200")), stored)
	for _, g := range a.Spec.Groups {
		a.Owners(g.Name)
	}
}

func attackTable(rows []attackRow) string {
	return scenario.Table("MODE\tATTACK\tSENT\tANSWERED\tRSS MiB\tPEAK\tNOT READY\tSESSION\tOWNED\tCLAIMED\tTOOK",
		func(row func(...any)) {
			for _, r := range rows {
				if c := r.cost; c != nil {
					row(r.mode, r.id, r.sent, "", fmt.Sprintf("%d → %d", c.before.rss, c.after.rss), c.peak, scenario.Short(c.unready),
						fmt.Sprintf("%d → %d", c.before.session, c.after.session), c.owned, c.claims, scenario.Short(c.took))
					continue
				}
				row(r.mode, r.id, r.sent, r.answered)
			}
		})
}

func TestNewestRecordOfABlock(t *testing.T) {
	record := func(seq uint64, subject string) []byte {
		b := binary.LittleEndian.AppendUint32(nil, 100)
		b = binary.LittleEndian.AppendUint64(b, seq)
		b = append(b, make([]byte, 8)...)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(subject)))
		return append(append(b, subject...), "data"...)
	}
	data := slices.Concat(record(5, "s.n1"), record(7, "s.n1"), record(6, "s.n1"), record(8, "s.n11"), record(9, "s.n2"))
	if got := newestOf(data, "s.n1"); got != 7 {
		t.Errorf("%d, want 7", got)
	}
}
