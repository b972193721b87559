package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// atTerminal is a command that runs at a terminal of its own.
type atTerminal struct {
	t        *testing.T
	keyboard *os.File // And screen: the terminal's other side.
	terminal *os.File
	cmd      *exec.Cmd

	mu     sync.Mutex
	screen bytes.Buffer
}

func startAtTerminal(t *testing.T, args ...string) *atTerminal {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a := &atTerminal{t: t, keyboard: keyboard, terminal: terminal, cmd: exec.Command(self, args...)}
	a.cmd.Env = append(os.Environ(), "LEASEHOLD_TEST_NODE=1")
	a.cmd.Stdin, a.cmd.Stdout, a.cmd.Stderr = terminal, terminal, terminal
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // Ends when the keyboard is closed.
		part := make([]byte, 4096)
		for {
			n, err := keyboard.Read(part)
			a.mu.Lock()
			a.screen.Write(part[:n])
			a.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = a.cmd.Process.Kill() // It has ended unless the test failed.
		terminal.Close()
		keyboard.Close()
	})
	return a
}

// shown is what is on the screen, with wrapped lines put together again.
func (a *atTerminal) shown() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.ReplaceAll(a.screen.String(), "\r\n  ", " ")
}

// typeAt waits for a text on the screen and types.
func (a *atTerminal) typeAt(text, keys string) {
	a.t.Helper()
	eventually(a.t, time.Minute, func() error {
		if !strings.Contains(a.shown(), text) {
			return fmt.Errorf("no %q in %q", text, a.shown())
		}
		return nil
	})
	if _, err := a.keyboard.WriteString(keys); err != nil {
		a.t.Fatal(err)
	}
}

// wantEnd waits for the end of the command, which must leave a terminal that shows what is typed.
func (a *atTerminal) wantEnd(code int, text string) {
	a.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- a.cmd.Wait() }()
	select {
	case err := <-ended:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			a.t.Fatal(err)
		}
	case <-time.After(time.Minute):
		a.t.Fatalf("the command goes on: %q", a.shown())
	}
	if got := a.cmd.ProcessState.ExitCode(); got != code {
		a.t.Errorf("exit code %d, want %d: %q", got, code, a.shown())
	}
	eventually(a.t, time.Minute, func() error {
		if !strings.Contains(a.shown(), text) {
			return fmt.Errorf("no %q in %q", text, a.shown())
		}
		return nil
	})
	state, err := unix.IoctlGetTermios(int(a.terminal.Fd()), unix.TCGETS)
	if err != nil || state.Lflag&unix.ECHO == 0 {
		a.t.Errorf("the terminal is left without echo (%v)", err)
	}
}

// TestInterruptAtAQuestionEndsTheCommand: at once, with nothing done, whatever asks.
func TestInterruptAtAQuestionEndsTheCommand(t *testing.T) {
	f, addr := requestsAgent(t, 3)
	for _, args := range [][]string{
		{"dlq", "drop", "billing", "--all"}, {"dlq", "requeue", "billing", "1"}, {"dlq", "release", "billing", "--all"},
		{"seek", "billing", "--to", "earliest"}, {"group", "remove", "audit"}, {"node", "remove", "n2"},
	} {
		a := startAtTerminal(t, append(args, "--addr", addr)...)
		a.typeAt("Type yes: ", "\x03")
		a.wantEnd(exitInterrupted, "interrupted: nothing was done")
	}
	for _, prompts := range [][]string{{"Password: "}, {"Password: ", "Again: "}} {
		a := startAtTerminal(t, "user", "hash")
		for i, prompt := range prompts {
			keys := "secret\n"
			if i == len(prompts)-1 {
				keys = "sec\x03"
			}
			a.typeAt(prompt, keys)
		}
		a.wantEnd(exitInterrupted, "nothing was done")
	}
	if len(f.ordered)+len(f.asks)+len(f.removed) > 0 {
		t.Errorf("ordered %v, asked %v, removed %v", f.ordered, f.asks, f.removed)
	}
}

// TestInterruptWhileWaitingSaysWhatStands: the order is given by then.
func TestInterruptWhileWaitingSaysWhatStands(t *testing.T) {
	stuck := func(releasing, waiting []int) (*fakeRequests, string) {
		f := &fakeRequests{letters: someLetters(9), releasing: releasing, waiting: waiting}
		f.status = healthy()
		return f, agent(t, f)
	}
	_, addr := stuck([]int{6}, nil)
	a := startAtTerminal(t, "dlq", "release", "billing", "--key", "c 6", "--addr", addr)
	a.typeAt("releasing in 8 partitions", "\x03")
	a.wantEnd(exitInterrupted, "interrupted while waiting for the outcome")
	f, addr := stuck(nil, []int{3})
	a = startAtTerminal(t, "pause", "billing", "--reason", "lunch", "--addr", addr, "--wait", "10m")
	eventually(t, time.Minute, func() error {
		if f.polls.Load() < 2 { // The answer to the first one has arrived then.
			return errors.New("nothing was asked")
		}
		return nil
	})
	a.typeAt("", "\x03")
	a.wantEnd(exitInterrupted, "request 7 is recorded, and 1 partition has not applied it yet")
}

func TestOnlyYesIsAYes(t *testing.T) {
	f, addr := requestsAgent(t, 3)
	for _, keys := range []string{"\x04", "\n", "y\n", "no\n", "YES\n", "yes!\n"} {
		a := startAtTerminal(t, "dlq", "drop", "billing", "--all", "--addr", addr)
		a.typeAt("Type yes: ", keys)
		a.wantEnd(exitFailed, "nothing was done")
	}
	if len(f.ordered) > 0 {
		t.Errorf("dropped %v", f.ordered)
	}
	a := startAtTerminal(t, "dlq", "drop", "billing", "--all", "--addr", addr)
	a.typeAt("Type yes: ", "yes\n")
	a.wantEnd(exitOK, "dropped 3 dead letters")
}
