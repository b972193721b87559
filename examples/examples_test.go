// Package examples holds the tests of the example handlers. They play Leasehold's part by the contract of
// docs/handlers.md, as a user's program sees it; then the real one calls.
package examples

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hang bounds every wait. Nothing here takes that long unless something is broken.
const hang = 30 * time.Second

// need returns the path of a program that an example is written for. A machine without it proves nothing, so the test
// fails there.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("this test runs an example and needs %s on the PATH: %v", program, err)
	}
	return path
}

// start runs a command until the test ends, should the test process die, too.
func start(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	cmd.Stderr = t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // The kernel sends the signal when the thread ends.
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait() // How it ends is of no interest: it is killed.
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	return cmd
}

// soon waits until check has nothing to complain about.
func soon(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(hang)
	tick := time.NewTicker(5 * time.Millisecond)
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

// sqlite runs a query and returns its rows as Python prints them.
func sqlite(t *testing.T, db, query string) string {
	t.Helper()
	const program = "import sqlite3, sys\nprint(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchall())"
	out, err := exec.Command(need(t, "python3"), "-c", program, db, query).CombinedOutput()
	if err != nil {
		t.Fatalf("query %s: %v: %s", db, err, out)
	}
	return strings.TrimSpace(string(out))
}

// execute runs exec.sh on a payload and returns its exit code.
func execute(t *testing.T, out string, seq int, payload string) int {
	t.Helper()
	cmd := exec.Command("./exec.sh")
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "OUT=" + out, "LEASEHOLD_TOPIC=orders", "LEASEHOLD_PARTITION=3", "LEASEHOLD_KEY=c-17",
		fmt.Sprintf("LEASEHOLD_SEQ=%d", seq), fmt.Sprintf("LEASEHOLD_ID=orders/3/%d", seq), "LEASEHOLD_ATTEMPT=1",
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(payload), t.Output(), t.Output()
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

func TestExecKeepsEachMessageOnceAndTellsBadFromUnavailable(t *testing.T) {
	need(t, "bash")
	need(t, "jq")
	out := t.TempDir()
	for _, c := range []struct {
		seq     int
		dir     string
		payload string
		want    int
	}{
		{1, out, `{"item": 4}`, 0},
		{1, out, `{"item": 4}`, 0}, // a repeat
		{2, out, `no json`, 65},
		{3, filepath.Join(out, "not-there"), `{}`, 69},
		{4, out, `{"text": "` + strings.Repeat("x", 1<<20) + `"}`, 0},
	} {
		if got := execute(t, c.dir, c.seq, c.payload); got != c.want {
			t.Errorf("message %d: exit code %d, want %d", c.seq, got, c.want)
		}
	}
	files, err := filepath.Glob(filepath.Join(out, "*"))
	if err != nil {
		t.Fatal(err)
	}
	hidden, err := filepath.Glob(filepath.Join(out, ".new*"))
	if err != nil || len(files) != 2 || len(hidden) != 0 {
		t.Errorf("%v, left over: %v (%v)", files, hidden, err)
	}
	if text, err := os.ReadFile(filepath.Join(out, "orders.3.1.json")); err != nil || string(text) != `{"item": 4}` {
		t.Errorf("kept %q (%v)", text, err)
	}
}

func TestExecWithoutItsProgramIsUnavailable(t *testing.T) {
	bin := t.TempDir() // A PATH with bash and without jq.
	if err := os.Symlink(need(t, "bash"), filepath.Join(bin, "bash")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	if got := execute(t, t.TempDir(), 1, `{}`); got != 69 {
		t.Errorf("exit code %d, want 69: a good message would be set aside", got)
	}
}
