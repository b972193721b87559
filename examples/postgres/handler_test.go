// Package postgres holds the tests of the PostgreSQL recipe: its handler against a real server.
package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"leasehold/internal/conformance"
	"leasehold/worker/handler"
	"leasehold/worker/handler/subprocess"
)

// python returns an interpreter that has the database's client library.
func python(t *testing.T) string {
	t.Helper()
	var errs []error
	for _, name := range []string{"python3", "/usr/bin/python3"} { // The library may be Debian's and the first one not.
		path, err := exec.LookPath(name)
		if err == nil {
			var out []byte
			if out, err = exec.Command(path, "-c", "import psycopg2").CombinedOutput(); err == nil {
				return path
			}
			err = fmt.Errorf("%s: %s", path, out)
		}
		errs = append(errs, err)
	}
	t.Fatalf("this test needs Python with psycopg2: install python3-psycopg2\n%v", errors.Join(errs...))
	return ""
}

func (db *database) handler() subprocess.Config {
	script, err := filepath.Abs("handler.py")
	if err != nil {
		db.t.Fatal(err)
	}
	return subprocess.Config{
		Command: []string{python(db.t), script}, Config: map[string]any{"dsn": db.dsn()},
	}
}

// owner is one process of the handler, holding partition 3 under an epoch.
type owner struct {
	t      *testing.T
	epoch  uint64
	dialog *subprocess.Probe
	said   chan string
}

// start starts an owner and waits until it has its partition.
func (db *database) start(epoch uint64) *owner {
	db.t.Helper()
	o := &owner{t: db.t, epoch: epoch, said: make(chan string, 100)}
	var err error
	o.dialog, err = subprocess.StartProbe(db.handler(), handler.Env{Group: "billing", Topic: "orders"},
		func(line []byte) { o.said <- string(line) })
	if err != nil {
		db.t.Fatal(err)
	}
	db.t.Cleanup(o.dialog.Kill)
	o.must(o.dialog.Init("0"))
	o.hear("0", "")
	o.must(o.dialog.Assign("1", handler.Assignment{Partition: 3, Epoch: epoch, NextSeq: 1}))
	o.hear("1", "")
	return o
}

func (o *owner) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

func id(seq uint64) string { return fmt.Sprintf("orders/3/%d", seq) }

func (o *owner) message(seq uint64) *handler.Message {
	return &handler.Message{
		ID: id(seq), IdempotencyKey: fmt.Sprintf("m%d", seq), Topic: "orders", Group: "billing", Partition: 3, Seq: seq,
		Epoch: o.epoch, Attempt: 1, MaxAttempts: 8, Key: "alice", Timeout: hang,
		Data: fmt.Appendf(nil, `{"amount": %d}`, 1<<seq),
	}
}

// give hands the owner a message and does not wait.
func (o *owner) give(seq uint64) {
	o.t.Helper()
	o.must(o.dialog.Message(o.message(seq)))
}

// giveReleased is give for a message of a parked key that an operator has released.
func (o *owner) giveReleased(seq uint64) {
	o.t.Helper()
	m := o.message(seq)
	m.Released = true
	o.must(o.dialog.Message(m))
}

// hear waits for the owner's next answer, which must be the one to the line with this id.
func (o *owner) hear(id, status string) (reason string) {
	o.t.Helper()
	select {
	case line := <-o.said:
		var a struct{ ID, Status, Reason string }
		o.must(json.Unmarshal([]byte(line), &a))
		if a.ID != id || a.Status != status {
			o.t.Fatalf("epoch %d answered %s, want status %q of %s", o.epoch, line, status, id)
		}
		return a.Reason
	case <-o.dialog.Ended():
		o.t.Fatalf("epoch %d ended: %s", o.epoch, o.dialog.Ending())
	case <-time.After(hang):
		o.t.Fatalf("epoch %d does not answer %s", o.epoch, id)
	}
	return ""
}

func (o *owner) does(seqs ...uint64) {
	o.t.Helper()
	for _, seq := range seqs {
		o.give(seq)
		o.hear(id(seq), "ok")
	}
}

// isRefused waits for the answer to a message that another owner's epoch must have fenced.
func (o *owner) isRefused(seq uint64, because string) {
	o.t.Helper()
	if reason := o.hear(id(seq), "unavailable"); !strings.Contains(reason, because) {
		o.t.Errorf("refused because of %q, want %q", reason, because)
	}
}

func (o *owner) signal(sig syscall.Signal) {
	o.t.Helper()
	o.must(syscall.Kill(-o.dialog.PID(), sig))
}

// wantExact checks that messages 1 to last were each applied once, in order, by owners whose epochs only grew.
func (db *database) wantExact(last, epoch uint64) {
	db.t.Helper()
	db.want("SELECT count(*), count(DISTINCT seq), min(seq), max(seq) FROM ledger",
		fmt.Sprintf("%d|%d|1|%d", last, last, last))
	db.want("SELECT count(*) FROM (SELECT epoch, seq, lag(epoch) OVER w AS e, lag(seq) OVER w AS s FROM ledger WINDOW w "+
		"AS (PARTITION BY partition ORDER BY id)) AS x WHERE epoch < e OR seq <= s", "0")
	db.want("SELECT account, amount FROM balance", fmt.Sprintf("alice|%d", 1<<(last+1)-2))
	db.want("SELECT * FROM progress", fmt.Sprintf("billing|3|%d|%d", epoch, last))
}

func TestEachMessageIsAppliedOnceAndBadOnesAreRejected(t *testing.T) {
	db := startPostgres(t)
	o := db.start(4)
	o.does(1, 2, 3)
	o.does(3) // a repeat
	for _, data := range []string{"no json", `{"item": 4}`, `{"amount": 99999999999999999999}`} {
		o.must(o.dialog.Message(&handler.Message{ID: "bad", Group: "billing", Partition: 3, Seq: 4, Epoch: 4, Key: "alice",
			Data: []byte(data)}))
		o.hear("bad", "reject")
	}
	o.does(4)
	db.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = '" +
		superuser + "'")
	o.give(5)
	o.isRefused(5, "database")
	o.does(5) // Asked again, it connects anew.
	db.wantExact(5, 4)
}

// TestReleasedMessagesAreAppliedOnce has messages come after later ones of their partition, as those of a parked key
// do.
func TestReleasedMessagesAreAppliedOnce(t *testing.T) {
	db := startPostgres(t)
	early := db.start(1)
	early.does(1, 3)
	late := db.start(2)
	early.giveReleased(2)
	early.isRefused(2, "epoch 1 is over, 2 has begun")
	for range 2 { // The second time is a repeat, as after a crash.
		late.giveReleased(2)
		late.hear(id(2), "ok")
	}
	late.giveReleased(3) // It was set aside though its effect had been committed: the answer had not come through.
	late.hear(id(3), "ok")
	late.does(4)
	db.want("SELECT seq FROM ledger ORDER BY id", "1\n3\n2\n4")
	db.want("SELECT * FROM progress", "billing|3|2|4")
}

// TestPausedOwnerWakesUpLate has an owner stopped with a message in its pipe, before it has begun with it. Meanwhile
// another one takes the partition over and goes on.
func TestPausedOwnerWakesUpLate(t *testing.T) {
	db := startPostgres(t)
	early := db.start(1)
	early.does(1, 2, 3)
	early.signal(syscall.SIGSTOP)
	early.give(4)
	late := db.start(2)
	late.does(4, 5)
	early.signal(syscall.SIGCONT)
	early.isRefused(4, "epoch 1 is over, 2 has begun")
	late.does(6)
	early.give(7) // One that nobody has done yet: only the epoch speaks against it.
	early.isRefused(7, "epoch 1 is over, 2 has begun")
	late.does(7)
	db.wantExact(7, 2)
}

// TestOwnerPausedInItsTransactionWakesUpLate has an owner stopped after its effect and before its commit, holding its
// locks. The next owner must get past them, and the first one's commit must fail.
func TestOwnerPausedInItsTransactionWakesUpLate(t *testing.T) {
	db := startPostgres(t)
	open := db.gate()
	early := db.start(1)
	early.does(1, 2, 3)
	early.give(gated)
	db.await("wait_event = 'advisory'", 1) // The effect is on its way.
	early.signal(syscall.SIGSTOP)
	open()
	db.await("wait_event = 'advisory'", 0) // It is done, and nobody commits.
	late := db.start(2)
	late.does(gated, 5)
	early.signal(syscall.SIGCONT)
	early.isRefused(gated, "database")
	early.give(gated)
	early.isRefused(gated, "epoch 1 is over, 2 has begun")
	late.does(6)
	db.wantExact(6, 2)
}

// gated is the message whose effect waits at the gate.
const gated = 4

// gate has the effect of one message wait, within its transaction, until the gate is opened.
func (db *database) gate() (open func()) {
	db.t.Helper()
	db.query(fmt.Sprintf(`CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$;
CREATE TRIGGER gate AFTER INSERT ON ledger FOR EACH ROW WHEN (NEW.seq = %d) EXECUTE FUNCTION gate()`, gated))
	keeper := db.psql(db.t.Context())
	in, err := keeper.StdinPipe()
	if err == nil {
		err = keeper.Start()
	}
	if err == nil {
		_, err = fmt.Fprintln(in, "SELECT pg_advisory_lock(1);")
	}
	if err != nil {
		db.t.Fatal(err)
	}
	soon(db.t, func() error {
		if got := db.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"); got != "1" {
			return fmt.Errorf("%s advisory locks", got)
		}
		return nil
	})
	return func() {
		db.t.Helper()
		if err := errors.Join(in.Close(), keeper.Wait()); err != nil { // The end of its session frees the lock.
			db.t.Fatal(err)
		}
	}
}

// await waits until so many of the server's sessions are in a state.
func (db *database) await(state string, want int) {
	db.t.Helper()
	soon(db.t, func() error {
		if got := db.query("SELECT count(*) FROM pg_stat_activity WHERE " + state); got != strconv.Itoa(want) {
			return fmt.Errorf("%s sessions with %s, want %d: %s", got, state, want,
				db.query("SELECT state, wait_event, query FROM pg_stat_activity WHERE datname IS NOT NULL"))
		}
		return nil
	})
}

func TestHandlerPassesTheConformanceChecks(t *testing.T) {
	db := startPostgres(t)
	r, err := conformance.Subprocess(t.Context(), conformance.Options{
		Handler: db.handler(), Env: handler.Env{Group: "conformance", Topic: "orders"},
		Timeout: hang, MaxPayload: 64 << 10, Key: "alice", Payloads: [][]byte{[]byte(`{"amount": 5}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Checks {
		if c.Verdict != conformance.Right && c.Name != "time" { // That is the machine's affair.
			t.Errorf("%+v", c)
		}
	}
}
