package network

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"leasehold/internal/harness/fault/namespace"
)

// Host is a network namespace with lo and one link, eth0, and nothing else: its processes share files with
// everyone.
type Host struct {
	// Address is its IPv4 address on eth0.
	Address string

	number int
	space  *os.File
}

// Namespace is a path for setns, good in any process while the test lasts.
func (h *Host) Namespace() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.space.Fd()) }

// Enter runs f with its thread on this host: what it listens on, dials or starts belongs there, and stays
// there after f. Goroutines that f starts are not on the host. The thread ends with f, and so do
// children whose parent-death signal is set.
func (h *Host) Enter(f func() error) error {
	return elsewhere(func() error {
		if err := unix.Setns(int(h.space.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter host %d: %w", h.number, err)
		}
		return f()
	})
}

// link is the bridge's end of the host's cable.
func (h *Host) link() string { return fmt.Sprintf("h%d", h.number) }

// settle waits until both ends of the host's cable carry: the kernel may take its time, up to a second or so.
func (h *Host) settle() error {
	for limit := time.Now().Add(settleLimit); !running(h.link()) || !h.running("eth0"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			return fmt.Errorf("the cable of host %d is still down after %s", h.number, settleLimit)
		}
	}
	return nil
}

// settleLimit is generous: it catches what never comes.
const settleLimit = 30 * time.Second

// running reports whether a device of the host is up and has a carrier.
func (h *Host) running(device string) bool {
	return h.Enter(func() error {
		if !running(device) {
			return errors.New("down")
		}
		return nil
	}) == nil
}

// running reports the same of a device of the calling thread's namespace.
func running(device string) bool {
	d, err := net.InterfaceByName(device)
	return err == nil && d.Flags&net.FlagRunning != 0
}

// elsewhere runs f on a thread that nobody uses afterwards: a locked goroutine takes its thread with it.
func elsewhere(f func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errors.New("the goroutine was ended") // stands if f calls t.Fatal
		defer func() { done <- err }()
		runtime.LockOSThread()
		err = f()
	}()
	return <-done
}

// hosts are numbered from 1.
type hosts []*Host

// Host returns host i, counted from 1.
func (hs hosts) Host(i int) *Host { return hs[i-1] }

// newHosts makes the namespaces, without links. On an error nothing is left.
func newHosts(t testing.TB, count int) (hosts, error) {
	t.Helper()
	var hs hosts
	for i := 1; i <= count; i++ {
		h, err := newHost(i)
		if err != nil {
			hs.close()
			return nil, fmt.Errorf("make host %d: %w", i, err)
		}
		hs = append(hs, h)
	}
	return hs, nil
}

func newHost(number int) (*Host, error) {
	h := &Host{Address: fmt.Sprintf("10.77.0.%d", number), number: number}
	err := elsewhere(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return lacking(fmt.Errorf("new network namespace: %w", err))
		}
		if h.space, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		if err := noIPv6(); err != nil {
			return err
		}
		return namespace.LoopbackUp()
	})
	if err != nil && h.space != nil {
		h.space.Close()
	}
	return h, err
}

func (hs hosts) close() {
	for _, h := range hs {
		h.space.Close()
	}
}

// ipv6Default says whether devices made from now on, in the calling thread's namespace, are without IPv6.
const ipv6Default = "/proc/sys/net/ipv6/conf/default/disable_ipv6"

// noIPv6 keeps devices made from now on from looking for routers and neighbours: counters are to count what
// the test sends. A kernel without IPv6 is as good.
func noIPv6() error {
	if err := os.WriteFile(ipv6Default, []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// quiet runs f, which makes devices in this namespace, without IPv6 for them.
func quiet(f func() error) error {
	was, err := os.ReadFile(ipv6Default)
	if errors.Is(err, os.ErrNotExist) {
		return f()
	} else if err != nil {
		return err
	}
	if err := noIPv6(); err != nil {
		return err
	}
	return errors.Join(f(), os.WriteFile(ipv6Default, was, 0))
}
