package cli

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"leasehold/internal/config"
	"leasehold/internal/freeport"
)

// devArgs are the arguments of a cluster of fake nodes on free ports.
func devArgs(t *testing.T, dir string, more ...string) []string {
	t.Helper()
	t.Setenv("LEASEHOLD_TEST_NODE", "1")
	base := freePorts(t, 9)
	return append([]string{"dev", "--dir", dir, "--timeout", "30s", "--nats-port", strconv.Itoa(base),
		"--cluster-port", strconv.Itoa(base + 3), "--http-port", strconv.Itoa(base + 6)}, more...)
}

// freePorts finds n ports in a row.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	first, err := freeport.Row(n)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

func TestDevLeavesDetachedNodesThatOtherCommandsRule(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	args := devArgs(t, dir, "--detach")
	t.Cleanup(func() { run(t, "dev", "down", "--dir", dir) })
	run(t, args...).want(t, exitOK, "Cluster of 3 nodes", dir, "dev down")
	run(t, "dev", "status", "--dir", dir).want(t, exitOK, "n3", "ready (pid", "OK: cluster plant-7")
	run(t, args...).want(t, exitFailed, "is already running")

	run(t, "dev", "kill", "n2", "--dir", dir).want(t, exitOK, "killed n2")
	run(t, "dev", "kill", "n2", "--dir", dir).want(t, exitFailed, "not running")
	run(t, "dev", "status", "--dir", dir).want(t, exitOK, "stopped")
	run(t, "dev", "start", "n2", "--dir", dir).want(t, exitOK, "n2 is ready")
	run(t, "dev", "start", "n2", "--dir", dir).want(t, exitFailed, "is already running")
	run(t, "dev", "kill", "n9", "--dir", dir).want(t, exitNotFound, "n9")

	run(t, "dev", "down", "--dir", dir).want(t, exitOK, "stopped n1, n2, n3")
	run(t, "dev", "down", "--dir", dir, "--purge").want(t, exitOK, "no node was running")
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("purge left %s: %v", dir, err)
	}
	run(t, "dev", "down", "--dir", dir).want(t, exitNotFound, "no dev cluster")
}

func TestDevInTheForegroundStopsItsNodesWithItself(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	cmd := exec.Command(os.Args[0], devArgs(t, dir)...)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	output := func() string { text, _ := os.ReadFile(log.Name()); return string(text) }
	eventually(t, 30*time.Second, func() error {
		if !strings.Contains(output(), "All ready") {
			return errors.New("not ready: " + output())
		}
		return nil
	})
	nodes, err := devNodes(dir)
	if err != nil {
		t.Fatal(err)
	}
	run(t, "dev", "kill", "n1", "--dir", dir).want(t, exitOK)
	eventually(t, 10*time.Second, func() error {
		if !strings.Contains(output(), "n1 has exited") {
			return errors.New("nothing was said about n1: " + output())
		}
		return nil
	})
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v: %s", err, output())
	}
	for _, n := range nodes {
		if pid, running := n.PID(); running {
			t.Errorf("%s still runs as %d", n.Name, pid)
		}
	}
}

func TestDevShowsTheLogOfANodeThatDoesNotStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	topics := writeFile(t, filepath.Join(t.TempDir(), "topics.toml"),
		"[[topic]]\nname = \"t\"\npartitions = 1\n[[group]]\nname = \"broken\"\ntopic = \"t\"\nhandler = { kind = "+
			"\"file\", path = \"{{dir}}/{{node}}\" }\n")
	run(t, devArgs(t, dir, "--topics", topics)...).want(t, exitFailed, "this node is broken")
	nodes, err := devNodes(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if pid, running := n.PID(); running {
			t.Errorf("%s was left running as %d", n.Name, pid)
		}
	}
	text, err := os.ReadFile(nodes[1].Config())
	if err != nil || !strings.Contains(string(text), fmt.Sprintf("path = %q", filepath.Join(dir, "n2"))) {
		t.Errorf("placeholders: %v in\n%s", err, text)
	}
}

func TestDevRefusesTopicsThatAreWrongBeforeItStarts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	topics := writeFile(t, filepath.Join(t.TempDir(), "topics.toml"), "[[topic]]\nnam = \"t\"\n")
	run(t, devArgs(t, dir, "--topics", topics)...).want(t, exitUsage, `did you mean "name"`)
	if _, err := os.Stat(dir); err == nil {
		t.Error("a refused cluster left files")
	}
}

func TestDevNamesAPortThatIsTaken(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	args := devArgs(t, dir)
	var port string
	for i, arg := range args {
		if arg == "--http-port" {
			port = args[i+1]
		}
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	run(t, args...).want(t, exitFailed, "n1", "in use", "--http-port")
}

func TestAPidThatBelongsToAnotherProgramIsNotOurs(t *testing.T) {
	dir := devDirOf(t)
	nodes, err := devNodes(dir)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, nodes[0].PIDFile(), strconv.Itoa(os.Getpid())+"\n")
	run(t, "dev", "down", "--dir", dir).want(t, exitOK, "no node was running")
}

func TestTopicsMayBeginWithAByteOrderMark(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	topics := writeFile(t, filepath.Join(t.TempDir(), "topics.toml"),
		"\ufeff[[topic]]\nname = \"marked\"\npartitions = 4\n")
	startedAndStopped(t, dir, "--topics", topics, "--nodes", "1")
	if c, err := config.Load(filepath.Join(dir, "n1", config.FileName)); err != nil || c.Topics[0].Name != "marked" {
		t.Errorf("%v", err)
	}
}
