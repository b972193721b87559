package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// hang bounds every wait. Nothing takes that long unless something is broken.
const hang = time.Minute

// superuser is the role that the tests and the handlers use.
const superuser = "orders"

// database is a PostgreSQL server of the test's own, with the recipe's schema, on a Unix socket in a temporary
// directory.
type database struct {
	t   *testing.T
	dir string
}

// startPostgres starts a server until the test ends.
func startPostgres(t *testing.T) *database {
	t.Helper()
	dir, err := os.MkdirTemp("", "leasehold-pg-") // t.TempDir's is closed to the server's user, and too long for a socket.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	as := serverUser(t)
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, int(as.Uid), int(as.Gid))); err != nil {
		t.Fatal(err)
	}
	db := &database{t: t, dir: dir}
	data := filepath.Join(dir, "data")
	db.must(command(t, as, dir, "initdb", "-D", data, "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale", "C",
		"--no-sync"))
	// The server is never killed here, so it need not sync.
	run(t, command(t, as, dir, "postgres", "-D", data, "-k", dir, "-c", "listen_addresses=", "-F"), db.ready)
	schema, err := os.ReadFile("schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	db.query(string(schema))
	return db
}

// serverUser is who the server runs as: it refuses root.
func serverUser(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return &syscall.Credential{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid()), NoSetGroups: true}
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(errUID, errGID); err != nil {
			t.Fatal(err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	t.Fatal("the server refuses to run as root, and there is neither a user postgres nor nobody")
	return nil
}

// command is one of the server's programs. Debian keeps them off the PATH.
func command(t *testing.T, as *syscall.Credential, dir, program string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + program) // The pattern is well formed.
		if len(found) == 0 {
			t.Fatalf("this test runs a PostgreSQL server and needs %s, on the PATH or in /usr/lib/postgresql: install "+
				"postgresql", program)
		}
		path = found[len(found)-1]
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// run runs the server and waits until it is ready. At the end of the test it is stopped.
func run(t *testing.T, cmd *exec.Cmd, ready func() error) {
	t.Helper()
	var log lockedBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // The parent-death signal comes when the thread ends.
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait() // The test's end stops it; how it exits then is of no interest.
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGINT) // Ends all sessions and shuts down.
		select {
		case <-ended:
		case <-time.After(hang):
			cmd.Process.Kill()
			<-ended
			t.Errorf("the server did not stop within %s", hang)
		}
		if t.Failed() {
			t.Logf("server log:\n%s", &log)
		}
	})
	soon(t, func() error {
		select {
		case <-ended:
			t.Fatalf("the server exited: %s", &log)
		default:
		}
		return ready()
	})
}

func (db *database) must(cmd *exec.Cmd) {
	db.t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		db.t.Fatalf("%s: %v\n%s", filepath.Base(cmd.Path), err, out)
	}
}

func (db *database) dsn() string { return "host=" + db.dir + " user=" + superuser + " dbname=postgres" }

// psql is a client that runs a script.
func (db *database) psql(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "psql", append([]string{"-XAtq", "-v", "ON_ERROR_STOP=1", "-d", db.dsn()}, args...)...)
}

func (db *database) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	if out, err := db.psql(ctx, "-c", "SELECT 1").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// query returns the rows of a statement, columns separated by |.
func (db *database) query(sql string) string {
	db.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	out, err := db.psql(ctx, "-c", sql).CombinedOutput()
	if err != nil {
		db.t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// want checks the rows of a statement.
func (db *database) want(sql, want string) {
	db.t.Helper()
	if got := db.query(sql); got != want {
		db.t.Errorf("%s\ngives %q, want %q", sql, got, want)
	}
}

// soon waits until check has nothing to complain about.
func soon(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(hang)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %v", hang, err)
		}
		<-tick.C
	}
}

// lockedBuffer is a buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
