package namespace

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// role makes TestInner do something; the tests below pass it, through a flag of their own as others would.
var role = flag.String("role", "", "what TestInner does: exit, hang")

func TestMain(m *testing.M) {
	Main(m, func() int {
		code := m.Run()
		if *role == "exit" {
			return 7
		}
		return code
	})
}

func need(t *testing.T) {
	t.Helper()
	if !Own() {
		t.Skip(Why())
	}
}

// TestInner is what the other tests run in a process of its own.
func TestInner(t *testing.T) {
	switch *role {
	case "hang":
		fmt.Println("hanging in process", os.Getpid())
		select {}
	case "exit":
		fmt.Println("own is", Own())
	}
}

func TestNothingHereIsTheMachines(t *testing.T) {
	need(t)
	for _, kind := range []string{"net", "mnt"} {
		here, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		there, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", os.Getppid(), kind))
		if err != nil {
			t.Fatal(err)
		}
		if here == there {
			t.Errorf("the parent is in the same namespace %s", here)
		}
	}
}

func TestLoopbackIsUp(t *testing.T) {
	need(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestMountsStayHere(t *testing.T) {
	need(t)
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	if !mounted(t, os.Getpid(), dir) {
		t.Error("the mount is not seen here")
	}
	if mounted(t, os.Getppid(), dir) {
		t.Error("the parent sees the mount too")
	}
}

// mounted reports whether process pid sees a mount at dir.
func mounted(t *testing.T, pid int, dir string) bool {
	t.Helper()
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(table), " "+dir+" ")
}

// inner is this test binary, started as `go test` starts it: in namespaces that it must leave.
func inner(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], append([]string{"-test.run=^TestInner$"}, args...)...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, outside+"=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	return cmd
}

func TestFlagsOutputAndExitCodePass(t *testing.T) {
	need(t)
	out, err := inner("-role=exit").CombinedOutput()
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != 7 {
		t.Errorf("ended with %v, not with status 7", err)
	}
	if !strings.Contains(string(out), "own is true") {
		t.Errorf("printed %q", out)
	}
}

func TestTimeoutPasses(t *testing.T) {
	need(t)
	out, err := inner("-role=hang", "-test.timeout=200ms").CombinedOutput()
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != 2 {
		t.Errorf("ended with %v, not with status 2", err)
	}
	if !strings.Contains(string(out), "test timed out after 200ms") {
		t.Errorf("printed %q", out)
	}
}

// TestSignalsEndBoth: the pipe's end is reached only once no process holds it, neither the one that was
// signalled nor the one it had started.
func TestSignalsEndBoth(t *testing.T) {
	need(t)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGKILL} {
		t.Run(s.String(), func(t *testing.T) {
			cmd := inner("-role=hang")
			pipe, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			out := bufio.NewReader(pipe)
			line, err := out.ReadString('\n')
			if err != nil || strings.Contains(line, fmt.Sprint(" ", cmd.Process.Pid, "\n")) {
				t.Fatalf("printed %q (%v), from process %d", line, err, cmd.Process.Pid)
			}
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, out)
				ended <- errors.Join(err, cmd.Wait())
			}()
			select {
			case err := <-ended:
				if err == nil {
					t.Error("ended with status 0")
				}
			case <-time.After(10 * time.Second):
				t.Fatal("a process is still there after 10 s")
			}
		})
	}
}

func TestMarkAloneIsNotBelieved(t *testing.T) {
	is, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	cmd := inner("-role=exit")
	cmd.Env = append(cmd.Env, outside+"="+is)
	out, err := cmd.CombinedOutput()
	if err == nil || strings.Contains(string(out), "own is true") {
		t.Errorf("believed it: %q, %v", out, err)
	}
}
