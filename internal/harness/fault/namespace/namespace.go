// Package namespace lets a package's tests run in a mount and a network namespace of their own, so that
// what they mount, cut and unplug is not the machine's, and is gone when they are.
package namespace

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// outside is the environment variable that names, to the test binary executed again, the network
// namespace which it must not be in any more. Its being set alone would prove nothing.
const outside = "LEASEHOLD_TEST_NAMESPACE_OUTSIDE"

// why says why the tests run in the machine's own namespaces; empty when they do not. Main writes it
// before any test runs.
var why = "namespace.Main was not called"

// Own reports whether the tests run in namespaces made for them.
func Own() bool { return why == "" }

// Why says why Own is false.
func Why() string { return why }

// Main is the body of a TestMain: it executes this test binary again in namespaces of its own, with the
// same arguments, input and outputs, and exits as that does. There it calls run, or m.Run if run is nil.
// Where that cannot be done, as without root's rights, run is called in place and Own is false. It does
// not return.
func Main(m *testing.M, run func() int) {
	if run == nil {
		run = m.Run
	}
	if was := os.Getenv(outside); was != "" {
		if err := enter(was); err != nil {
			fmt.Fprintln(os.Stderr, "namespace:", err)
			os.Exit(1)
		}
		why = ""
		os.Exit(run())
	}
	code, err := again()
	if err != nil {
		why = err.Error()
		code = run()
	}
	os.Exit(code)
}

// enter makes the new namespaces usable: mounts made here are seen only here, and lo is up.
func enter(was string) error {
	is, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	if is == was {
		return fmt.Errorf("%s is set, but this is the network namespace it names", outside)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	return LoopbackUp()
}

// LoopbackUp brings up lo in the calling thread's network namespace.
func LoopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

// again runs this binary in new namespaces and returns its exit code. An error means it never started.
func again() (int, error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("new namespaces need root's rights")
	}
	is, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return 0, fmt.Errorf("name the network namespace: %w", err)
	}
	runtime.LockOSThread() // Pdeathsig is sent when the thread that started the child ends, not the process
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), outside+"="+is)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	signals := make(chan os.Signal, 8) // from before the start: one that came in between would leave the child behind
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	if err := cmd.Start(); err != nil {
		signal.Stop(signals)
		runtime.UnlockOSThread()
		return 0, fmt.Errorf("new namespaces: %s", strings.TrimPrefix(err.Error(), "fork/exec "))
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	return exit(cmd.Wait())
}

// exit turns the end of the child into the code that a shell would give it.
func exit(err error) (int, error) {
	var ended *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case !errors.As(err, &ended):
		fmt.Fprintln(os.Stderr, "namespace: wait for the tests:", err)
		return 1, nil
	}
	if status := ended.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return ended.ExitCode(), nil
}
