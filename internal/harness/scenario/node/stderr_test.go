package node

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"leasehold/internal/harness/testcluster"
)

// logging starts a single node with a group that logs every message. redirect is what a shell does before it becomes
// the agent.
func logging(t *testing.T, redirect string) (*testcluster.Cluster, *testcluster.Node) {
	t.Helper()
	c := testcluster.New(t, testcluster.Spec{
		Nodes: 1, LogLevel: "info", Topics: []testcluster.Topic{{Name: "events", Partitions: 4}},
		Groups: []testcluster.Group{{Name: "loud", Topic: "events", Handler: `{ kind = "log", payload = true }`}},
	})
	c.AddGroup(testcluster.Group{Name: "calls", Topic: "events", Handler: c.CallLogHandler(testcluster.CallLogOptions{})})
	n := c.Nodes[0]
	n.Within = []string{"sh", "-c", redirect + `; exec "$@"`, "sh"}
	c.StartAll(testcluster.StartLimit)
	return c, n
}

// publishLong publishes messages of 2 KB, each of which is a line in the log.
func publishLong(c *testcluster.Cluster, messages int) {
	c.T.Helper()
	var text strings.Builder
	for i := range messages {
		fmt.Fprintf(&text, "{\"k\":\"k%d\",\"x\":\"%s\"}\n", i, strings.Repeat("x", 2000))
	}
	file := filepath.Join(c.Dir, "messages.ndjson")
	c.Write(file, text.String())
	if out, err := c.CLI("pub", "events", "--file", file, "--key-field", "k"); err != nil {
		c.T.Fatalf("pub: %v\n%s", err, out)
	}
}

// handles publishes and waits until both groups have handled all of it.
func handles(c *testcluster.Cluster, messages int) {
	c.T.Helper()
	publishLong(c, messages)
	for _, g := range c.Spec.Groups {
		c.WaitDrained(testcluster.MoveLimit, g.Name)
	}
}

// warned reports whether status says that the log cannot be written.
func warned(c *testcluster.Cluster) bool {
	c.T.Helper()
	out, _ := c.CLI("status") // The exit code is about other things.
	return strings.Contains(string(out), "cannot write its log")
}

func mkfifo(t *testing.T) (path string, ours *os.File) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "stderr")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	ours, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	return path, ours
}

func TestAStuckLogDoesNotHoldUpANode(t *testing.T) {
	path, pipe := mkfifo(t)
	c, n := logging(t, "exec 2>"+path)
	handles(c, 1500)
	if !warned(c) {
		t.Error("status does not say that the log is stuck")
	}
	said := make(chan struct{})
	go func() {
		for lines, seen := bufio.NewScanner(pipe), false; lines.Scan(); {
			if !seen && strings.Contains(lines.Text(), "log lines dropped") {
				seen = true
				close(said)
			}
		}
	}()
	select {
	case <-said:
	case <-time.After(testcluster.MoveLimit):
		t.Error("nothing in the log about dropped lines once it is read")
	}
	if handles(c, 1); warned(c) {
		t.Error("status still says that the log is stuck")
	}
	n.Term()
}

func TestAStuckLogDoesNotHoldUpTheEnd(t *testing.T) {
	path, _ := mkfifo(t)
	c, n := logging(t, "exec 2>"+path)
	handles(c, 1500)
	n.Term() // Its exit code must be 0.
}

func TestANodeOutlivesTheReaderOfItsLog(t *testing.T) {
	for name, trap := range map[string]string{"SIGPIPE by default": "",
		"SIGPIPE ignored, as systemd does": `trap "" PIPE; `} {
		t.Run(name, func(t *testing.T) {
			path, pipe := mkfifo(t)
			c, n := logging(t, trap+"exec 2>"+path)
			pipe.Close()
			handles(c, 50)
			if !warned(c) {
				t.Error("status does not say that the log goes nowhere")
			}
			n.Term()
		})
	}
}

func TestANodeRunsWithoutALog(t *testing.T) {
	for name, stderr := range map[string]string{"full disk": "/dev/full", "closed": "&-"} {
		t.Run(name, func(t *testing.T) {
			c, n := logging(t, "exec 2>"+stderr)
			handles(c, 50)
			n.Term()
		})
	}
}

// SIGHUP from a terminal comes twice as a rule: from the kernel and from the shell.
func TestHangupStopsANodeCleanly(t *testing.T) {
	c := testcluster.New(t, testcluster.Spec{Nodes: 1, LogLevel: "info",
		Topics: []testcluster.Topic{{Name: "events", Partitions: 4}}})
	c.AddGroup(testcluster.Group{Name: "calls", Topic: "events", Handler: c.CallLogHandler(testcluster.CallLogOptions{})})
	c.StartAll(testcluster.StartLimit)
	n := c.Nodes[0]
	for range 2 {
		if err := unix.Kill(n.PID(), unix.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	if code := n.WaitExit(); code != 128+int(syscall.SIGHUP) {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"SIGHUP", "handing over", "stopped"} {
		if !strings.Contains(n.Log(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}

// The log of the node that was asked says who asked, and so does the record in the bucket.
func TestWhoPausedAGroupIsLoggedAndRecorded(t *testing.T) {
	c := testcluster.New(t, testcluster.Spec{Nodes: 1, LogLevel: "info",
		Topics: []testcluster.Topic{{Name: "events", Partitions: 4}}})
	c.AddGroup(testcluster.Group{Name: "calls", Topic: "events", Handler: c.CallLogHandler(testcluster.CallLogOptions{})})
	c.StartAll(testcluster.StartLimit)
	n := c.Nodes[0]
	if code, out := n.Command("pause", "calls", "--reason", "maintenance"); code != 0 {
		t.Fatalf("pause: %d\n%s", code, out)
	}
	who := fmt.Sprintf("uid %d, pid ", os.Getuid())
	for _, want := range []string{`operator command accepted: by="` + who, `change requested: by="` + who} {
		if !strings.Contains(n.Log(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	testcluster.Eventually(t, testcluster.MoveLimit, func() error {
		blocks, err := filepath.Glob(filepath.Join(n.DataDir(), "jetstream", "*", "streams", "KV_leasehold", "msgs", "*.blk"))
		for _, b := range blocks {
			if text, err := os.ReadFile(b); err == nil && strings.Contains(string(text), `"by":"`+who) {
				return nil
			}
		}
		return fmt.Errorf("%d blocks and no record of who asked (%v)", len(blocks), err)
	})
	n.Term()
}
