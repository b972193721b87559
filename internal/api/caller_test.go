package api

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"leasehold/internal/api/listen"
)

// logText is a log that can be read while it is written.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func serveLogged(t *testing.T, token string) (addr, socket string, log *logText) {
	t.Helper()
	log = &logText{}
	socket = filepath.Join(t.TempDir(), "agent.sock")
	s, err := New(Options{
		Listen: "127.0.0.1:0", Socket: socket, Source: fakeSource{status: &Status{}}, Membership: &fakeMembership{},
		Token:  token,
		Logger: hclog.New(&hclog.LoggerOptions{Output: log}),
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, s)
	return s.Addr(), socket, log
}

func TestWhoAskedForAChangeIsLogged(t *testing.T) {
	const token = "0123456789abcdef0123456789abcdef"
	addr, socket, log := serveLogged(t, token)
	_, _ = NewClient(socket).RemoveNode(t.Context(), "n2", false)
	_, _ = NewClientWith(addr, ClientOptions{Token: token}).RemoveNode(t.Context(), "alive", false)
	_, _ = NewClient(socket).Nodes(t.Context())
	runUntilSaid(t, log, 2)
	for _, want := range []string{
		fmt.Sprintf(`by="uid %d, pid %d" request="POST /v1/nodes/n2/remove" status=200`, os.Getuid(), os.Getpid()),
		`by="token from 127.0.0.1:`, `request="POST /v1/nodes/alive/remove" status=409`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in\n%s", want, log)
		}
	}
	if n := strings.Count(log.String(), "change requested"); n != 2 {
		t.Errorf("%d lines, want one for each change and none for looking:\n%s", n, log)
	}
	if strings.Contains(log.String(), token) {
		t.Error("the log shows the token")
	}
}

// runUntilSaid waits for lines that are written after the answer is.
func runUntilSaid(t *testing.T, log *logText, lines int) {
	t.Helper()
	for strings.Count(log.String(), "change requested") < lines {
		if t.Context().Err() != nil {
			t.Fatal(log)
		}
		runtime.Gosched()
	}
}

// A handler may be made to run things by a message.
func TestHandlersMakeNoChanges(t *testing.T) {
	const variable = "LEASEHOLD_TEST_SOCKET"
	if socket := os.Getenv(variable); socket != "" {
		_, err := NewClient(socket).RemoveNode(t.Context(), "n2", false)
		_, shown := NewClient(socket).Nodes(t.Context())
		fmt.Printf("change: %v; looking: %v\n", err, shown)
		return
	}
	_, socket, _ := serveLogged(t, "")
	for name, command := range map[string][]string{
		"child": {os.Args[0]}, "below a shell": {"sh", "-c", `"$0" "$@"; true`, os.Args[0]},
		"in a session of its own": {"setsid", "-w", os.Args[0]},
	} {
		cmd := exec.Command(command[0], append(command[1:], "-test.run=^"+t.Name()+"$")...)
		cmd.Env = append(os.Environ(), variable+"="+socket)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "change: not allowed: handlers may not make changes") ||
			!strings.Contains(string(out), "looking: <nil>") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestTheReadOnlySocketOnlyShows(t *testing.T) {
	_, socket, _ := serveLogged(t, "")
	for path, mode := range map[string]os.FileMode{socket: 0o600, listen.ReadOnlySocket(socket): 0o660} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, mode)
		}
	}
	c := NewClient(listen.ReadOnlySocket(socket))
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("status: %v", err)
	}
	if _, err := c.Nodes(t.Context()); err != nil {
		t.Errorf("nodes: %v", err)
	}
	if _, err := c.RemoveNode(t.Context(), "n2", false); !errors.Is(err, ErrNotAllowed) ||
		!strings.Contains(err.Error(), "sudo") {
		t.Errorf("change: %v", err)
	}
	_, socket = serveMessages(t, &fakeMessages{}, "")
	c = NewClient(listen.ReadOnlySocket(socket))
	for _, path := range []string{"/v1/topics/orders/messages/1", "/v1/topics/orders/tap", "/v1/topics/orders/count"} {
		if err := c.get(t.Context(), path, nil); !errors.Is(err, ErrNotAllowed) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Who may not use the socket for everything is shown state without asking for it.
func TestTheGroupIsShownState(t *testing.T) {
	_, socket, _ := serveLogged(t, "")
	for _, dir := range []string{filepath.Dir(socket), filepath.Dir(filepath.Dir(socket))} {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(listen.ReadOnlySocket(socket), 0o666); err != nil { // The thread below has no group.
		t.Fatal(err)
	}
	errs := make(chan error)
	go func() {
		runtime.LockOSThread() // And never unlocked: the thread ends with the goroutine.
		if os.Geteuid() == 0 {
			unix.RawSyscall(unix.SYS_SETFSUID, 65534, 0, 0)
		} else {
			os.Chmod(socket, 0)
		}
		conn, err := dialSocket(socket)
		if err == nil {
			err = conn.Close()
		}
		errs <- err
	}()
	if err := <-errs; err != nil {
		t.Error(err)
	}
}
