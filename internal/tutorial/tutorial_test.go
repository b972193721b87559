// Package tutorial runs docs/getting-started.md as a newcomer would: from an empty directory, command by command, and
// compares what comes out with what the page shows.
package tutorial

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"leasehold/internal/harness/fault/namespace"
)

var transcript = flag.String("transcript", "", "file to write what was typed and what came out to")

// bin is the directory of the binary under test, set before any test runs.
var bin string

// TestMain has the page's ports to itself where it can: in a network of its own.
func TestMain(m *testing.M) {
	namespace.Main(m, func() int {
		if err := build(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(bin)
		return m.Run()
	})
}

// build makes the binary where any user can start it.
func build() (err error) {
	if bin, err = os.MkdirTemp("", "leasehold-tutorial-*"); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "leasehold"), "leasehold")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return os.Chmod(bin, 0o755)
}

// commandLimit is how long a command may take before it is taken to hang.
const commandLimit = time.Minute

// nobody is the user that root becomes: a newcomer has no rights.
const nobody = 65534

// reader is somebody who follows a page.
type reader struct {
	t         *testing.T
	home, dir string
	path      string // PATH
	terminals map[string]*foreground
	seen      *bytes.Buffer // The transcript.
}

func newReader(t *testing.T) *reader {
	t.Helper()
	root := t.TempDir()
	r := &reader{t: t, home: filepath.Join(root, "home"), dir: filepath.Join(root, "demo"),
		path: bin + ":/usr/local/bin:/usr/bin:/bin", terminals: map[string]*foreground{}, seen: &bytes.Buffer{}}
	for _, dir := range []string{r.home, r.dir} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.giveTo(nobody, filepath.Dir(root), root, r.home, r.dir)
	t.Cleanup(r.leave)
	return r
}

// giveTo makes directories another user's, if we may.
func (r *reader) giveTo(uid int, dirs ...string) {
	if os.Geteuid() != 0 {
		return
	}
	for _, dir := range dirs {
		if err := os.Chown(dir, uid, uid); err != nil {
			r.t.Fatal(err)
		}
	}
}

// leave ends what still runs, and keeps the transcript.
func (r *reader) leave() {
	for _, f := range r.terminals {
		_ = syscall.Kill(-f.cmd.Process.Pid, syscall.SIGKILL)
		<-f.ended
	}
	if out, err := r.shell("for dir in . */; do (cd $dir && leasehold dev down 2>/dev/null); done").Output(); err == nil {
		r.t.Logf("left running: %s", out)
	}
	r.t.Log("\n" + r.seen.String())
	if *transcript != "" {
		f, err := os.OpenFile(*transcript, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			r.t.Fatal(err)
		}
		defer f.Close()
		fmt.Fprintf(f, "# %s\n%s\n", r.t.Name(), r.seen)
	}
}

// shell is a command as the reader types it, with nothing of our environment.
func (r *reader) shell(command string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	r.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "bash", "-c", command)
	cmd.Dir = r.dir
	cmd.Env = []string{"HOME=" + r.home, "PATH=" + r.path, "TMPDIR=" + r.home, "LANG=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	cmd.WaitDelay = time.Second // A detached node that held on to our pipe would be a defect, and must not hang the test.
	return cmd
}

// follow does every step of a page.
func (r *reader) follow(page string, steps []step) {
	r.t.Helper()
	for _, s := range steps {
		if err := r.do(s); err != nil {
			r.t.Fatalf("%s:%d: %v", page, s.line, err)
		}
	}
}

func (r *reader) do(s step) error {
	switch {
	case s.file != "":
		return r.write(s)
	case s.terminal == "":
		return r.run(s)
	case s.command == stop:
		return r.interrupt(s)
	}
	return r.start(s)
}

func (r *reader) write(s step) error {
	fmt.Fprintf(r.seen, "[%s]\n%s\n", s.file, s.text)
	path := filepath.Join(r.dir, s.file)
	flags := os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	if s.appended {
		flags = os.O_WRONLY | os.O_APPEND
	}
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(s.text)
	r.giveTo(nobody, path)
	return errors.Join(err, f.Close())
}

func (r *reader) run(s step) error {
	out, err := r.shell(s.command).CombinedOutput()
	fmt.Fprintf(r.seen, "$ %s\n%s", s.command, out)
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		return fmt.Errorf("%s: %w\n%s", s.command, err, out)
	}
	if !matches(s.output, string(out), true) {
		return fmt.Errorf("%s: printed\n%s\nthe page shows\n%s", s.command, out, strings.Join(s.output, "\n"))
	}
	return nil
}

// foreground is a command that stays in a terminal of its own.
type foreground struct {
	cmd   *exec.Cmd
	out   *output
	ended chan struct{}
	err   error // Of its end; to be read after ended.
}

// output is what a command has printed so far.
type output struct {
	sync.Mutex
	text []byte
}

func (o *output) Write(p []byte) (int, error) {
	o.Lock()
	defer o.Unlock()
	o.text = append(o.text, p...)
	return len(p), nil
}

func (o *output) since(n int) string {
	o.Lock()
	defer o.Unlock()
	return string(o.text[n:])
}

func (r *reader) start(s step) error {
	f := &foreground{cmd: r.shell("exec " + s.command), out: &output{}, ended: make(chan struct{})}
	f.cmd.Stdout, f.cmd.Stderr = f.out, f.out
	if err := f.cmd.Start(); err != nil {
		return err
	}
	r.terminals[s.terminal] = f
	go func() {
		f.err = f.cmd.Wait()
		close(f.ended)
	}()
	fmt.Fprintf(r.seen, "[%s]\n$ %s\n", s.terminal, s.command)
	if err := f.wait(0, s); err != nil {
		return err
	}
	r.seen.WriteString(f.out.since(0))
	return nil
}

func (r *reader) interrupt(s step) error {
	f := r.terminals[s.terminal]
	if f == nil {
		return fmt.Errorf("nothing runs in %s", s.terminal)
	}
	before := len(f.out.since(0))
	if err := f.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	if err := f.wait(before, s); err != nil {
		return err
	}
	<-f.ended
	delete(r.terminals, s.terminal)
	fmt.Fprintf(r.seen, "[%s]\n^C\n%s", s.terminal, f.out.since(before))
	return f.err
}

// wait waits until the command has printed what the page shows.
func (f *foreground) wait(from int, s step) error {
	deadline := time.Now().Add(commandLimit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ended := f.ended; !matches(s.output, f.out.since(from), false); {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: printed\n%s\nthe page shows\n%s", s.command, f.out.since(from), strings.Join(s.output, "\n"))
		}
		select {
		case <-ended:
			ended, deadline = nil, time.Now() // One last look.
		case <-tick.C:
		}
	}
	return nil
}

const page = "../../docs/getting-started.md"

func TestGettingStartedWorksCommandByCommand(t *testing.T) {
	newReader(t).follow(page, read(t, page))
}
