package sim

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"leasehold/internal/harness/overlay"
)

// seedsToFind is how many seeds may pass before each broken rule must have been noticed.
const seedsToFind = 2000

// broken is a rule of the protocol taken out of its source.
type broken struct {
	name  string
	edits []edit
}

// edit makes new out of old in a file of the protocol.
type edit struct{ file, old, new string }

var brokenRules = []broken{
	{"fence from the reply instead of the send", []edit{{"self.go",
		"fence, cut := a.at+c.cfg.TTL-c.cfg.Margin,", "fence, cut := c.now+c.cfg.TTL-c.cfg.Margin,"}}},
	{"fence from a read of the own nonce", []edit{{"self.go",
		"a.at <= o.cutAt\n",
		"a.at <= o.cutAt\n\tif !answered {\n\t\tfence = c.now + c.cfg.TTL - c.cfg.Margin\n\t}\n"}}},
	{"claim without declaring the owner dead", []edit{{"peers.go",
		"return rec.Boot > boot || rec.Boot == boot && rec.State != Live",
		"return rec.Boot > boot || rec.Boot == boot && rec.State != Live ||\n" +
			"\t\tnode != c.cfg.Self.Node && c.now-c.peer(node).lastChangeAt >= rec.TTL"}}},
	{"claim on a lower boot", []edit{{"peers.go",
		"return rec.Boot > boot || rec.Boot == boot && rec.State != Live", "return rec.Boot != boot || rec.State != Live"}}},
	{"claim on an absent session", []edit{{"peers.go",
		"if rec == nil {\n\t\treturn false", "if rec == nil {\n\t\treturn true"}}},
	{"same boot used again", []edit{{"self.go", "o.boot = boot + 1", "o.boot = max(boot, 1)"}}},
	{"renew over a record that declares us dead", []edit{{"self.go",
		"case o.rec == nil || o.rec.State != Live || o.rec.Boot < o.boot:",
		"case o.rec != nil && o.rec.Boot == o.boot && o.rec.State != Live:\n\t\to.nextAt = c.now\n" +
			"\tcase o.rec == nil || o.rec.State != Live || o.rec.Boot < o.boot:"}}},
	{"attempts reset without a check for dead letters",
		[]edit{{"command.go", "l.CheckDeadLetters = l.CheckDeadLetters || l.Attempt > 0\n", ""}}},
	{"ttl of a forged session believed", []edit{{"peers.go", "return max(rec.TTL, c.cfg.TTL)", "return rec.TTL"}}},
	{"lost lease claimed at once", []edit{{"lostrecord.go",
		"return c.now-ls.recordLostAt >= c.cfg.TTL+10*c.cfg.Renew", "return true"}}},
	{"lost lease claimed without a check for dead letters", []edit{{"lostrecord.go",
		"rec.Version, rec.Successor, rec.CheckDeadLetters = RecordVersion, \"\", true",
		"rec.Version, rec.Successor = RecordVersion, \"\""},
		{"leasestate.go", "ls.rec.CheckDeadLetters = true // it still rests on memory", ""}}},
	{"lost lease claimed under a known epoch", []edit{{"lostrecord.go", "rec.Epoch = max(rec.Epoch+1, in.Revision)",
		"rec.Epoch += 0"}}},
	{"declaring dead keeps the nonce", []edit{{"peers.go", "rec.State, rec.Nonce = Dead, \"\"", "rec.State = Dead"},
		{"self.go", " && a.rec.State == rec.State", ""}}},
	{"lane started on a read", []edit{{"leasestate.go",
		"c.learn(ls, in.Revision, *in.Lease)\n\tc.decide(ls)",
		"c.learn(ls, in.Revision, *in.Lease)\n\tif ls.lane == none && c.mine(ls) {\n" +
			"\t\tls.lane, ls.epoch, ls.progress, ls.pending = joined, ls.rec.Epoch, ls.rec.progress(), " +
			"nil\n\t}\n\tc.decide(ls)"}}},
	{"lane resumed while its hand-over has no known outcome", []edit{{"leasestate.go",
		"case !in.OK:\n\t\tls.retryAt = c.now + c.retryPause()",
		"case !in.OK:\n\t\tif ls.lane == handingOver && !c.stopping && !c.self.expired {\n\t\t\tls.lane = active\n" +
			"\t\t\tc.emit(Start{Key: ls.key, Grant: c.grant(ls)})\n\t\t}\n" +
			"\t\tls.retryAt = c.now + c.retryPause()"}}},
	{"hand-over before the lane is joined", []edit{{"leasestate.go",
		"ls.lane, ls.drainAt = draining, c.now\n\t\t\tc.emit(Drain{Key: ls.key})",
		"ls.lane = handingOver\n\t\t\tc.emit(Drain{Key: ls.key})\n\t\t\tc.handOver(ls)\n\t\t\treturn"}}},
	{"checkpoint from an older read than the revision named", []edit{{"leasestate.go",
		"ls.rev, ls.rec, ls.seenAt, ls.deadAt = rev, rec, c.now, 0\n\tls.lastValid, ls.recordLost = &rec, false\n\tif " +
			"ls.lane == none {",
		"if ls.lane == none && ls.rev > 0 {\n\t\trec.Checkpoint = ls.rec.Checkpoint\n\t}\n" +
			"\tls.rev, ls.rec, ls.seenAt, ls.deadAt = rev, rec, c.now, 0\n\tls.lastValid, ls.recordLost = &rec, false\n\tif " +
			"ls.lane == none {"}}},
	{"epoch not raised", []edit{{"leasestate.go", "rec.Epoch++", "rec.Epoch += 0"}}},
	{"command applied while the lane runs", []edit{{"leasestate.go",
		"if c.shouldRelease(ls) || ls.commandDue() {\n",
		"if ls.commandDue() {\n\t\t\tc.writeLease(ls, ls.underNextEpoch(ls.rec.with(ls.progress)), " +
			"true)\n\t\t\treturn\n\t\t}\n\t\tif c.shouldRelease(ls) {\n"}}},
	{"command applied without a new epoch", []edit{{"leasestate.go", "rec.Epoch++",
		"if !ls.commandDue() {\n\t\trec.Epoch++\n\t}"}}},
	{"command applied again", []edit{{"command.go", "l.Applied = c.ID",
		"if c.Kind != Seek {\n\t\tl.Applied = c.ID\n\t}"}}},
	{"lane resumed after a command's write was sent", []edit{{"leasestate.go",
		"case !in.OK:\n\t\tls.retryAt = c.now + c.retryPause()",
		"case !in.OK:\n\t\tif ls.lane == handingOver && !c.shouldRelease(ls) && !c.self.expired {\n\t\t\tls.lane = active\n" +
			"\t\t\tc.emit(Start{Key: ls.key, Grant: c.grant(ls)})\n\t\t}\n" +
			"\t\tls.retryAt = c.now + c.retryPause()"}}},
	{"proof used on a later boot", []edit{{"peers.go", " && w.ServerID == p.rec.ServerID", ""}}},
	{"proof used on a revision that it did not see", []edit{{"peers.go", "w.Revision == p.rev && ", ""}}},
	{"isolated and not fenced", []edit{{"self.go",
		"o.expired, o.nextAt = true, c.now\n\t\tc.cancelAll(ErrFenced)\n\t}\n\to.fence = min(o.fence, in.At)",
		"o.nextAt = c.now\n\t}"}}},
	{"isolated and resumed on a renewal sent before", []edit{{"self.go", "c.now < fence && !cut:", "c.now < fence:"}}},
	{"own lease without a lane never claimed again", []edit{{"leasestate.go",
		"case c.mine(ls) || c.eligible(ls):", "case !c.mine(ls) && c.eligible(ls):"}}},
}

// TestLongBrokenRulesAreFound breaks one rule at a time: a simulation that misses one proves nothing about it.
func TestLongBrokenRulesAreFound(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	for _, b := range brokenRules {
		t.Run(b.name, func(t *testing.T) {
			t.Logf("found at seed %s", b.find(t))
		})
	}
}

var foundAt = regexp.MustCompile(`found at seed (\d+: .*)`)

// find compiles the simulation with the rule broken and returns the first seed that notices.
func (b broken) find(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "sim.test")
	var edits []overlay.Edit
	for _, e := range b.edits {
		edits = append(edits, overlay.Edit{File: "cluster/lease/" + e.file, Old: e.old, New: e.new})
	}
	changed, err := overlay.Write(dir, edits)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "test", "-c", "-o", bin, "-overlay", changed, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the broken code: %v\n%s", err, out)
	}
	out, err := exec.Command(bin, "-test.run", "^TestFirstViolation$", "-first", "-seeds", "2000").CombinedOutput()
	found := foundAt.FindStringSubmatch(string(out))
	if err == nil || found == nil {
		t.Fatalf("%d seeds did not notice: %v\n%s", seedsToFind, err, out)
	}
	return found[1]
}

// TestBrokenSurroundingsAreFound breaks what is around the core: the watchdog, the check of the fence, the store.
func TestBrokenSurroundingsAreFound(t *testing.T) {
	for name, o := range map[string]Options{
		"no margin":             {NoMargin: true},
		"no watchdog":           {NoWatchdog: true},
		"no fence check":        {NoFenceCheck: true},
		"mark dead without CAS": {BlindMarkDead: true},
		"commit without CAS":    {BlindWrite: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := firstViolation(o, seedsToFind)
			if err == nil {
				t.Fatalf("%d seeds found nothing wrong", seedsToFind)
			}
			t.Logf("found at seed %d: %v", s, err)
		})
	}
}
