// Package disk makes disks fail for tests: power loss, death, no room, a copy
// of last week, damaged bytes, and fsync that is slow, fails or lies.
//
// A Disk is an ext4 file system on a loop device of its own. Nothing of it
// outlives the process: the image is a file without a name, and the kernel
// lets go of the loop device with the mount. The process should run in a mount
// namespace of its own, so that the mounts go with it too.
package disk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ErrUnavailable says that the machine lacks what a fault needs: root, a loop
// device, a program. What is wrapped around it says what. A test that gets it
// was not run.
var ErrUnavailable = errors.New("not available on this machine")

// mountOptions keep the journal from being written every 5 s, as it is by
// default: without a sync, little reaches the disk before a power loss.
const mountOptions = "commit=600"

const (
	// busyLimit is how long an unmount waits for killed processes to let go.
	busyLimit = 20 * time.Second
	// leaveLimit is the same for the clean-up, when the processes may live on.
	leaveLimit = 2 * time.Second
)

// Disk is a file system that can be hurt. Its methods are for one goroutine.
type Disk struct {
	dir   string
	image *os.File
	loop  int // number of the loop device; -1: not mounted
	limit Limit
}

// New makes a disk of the size and mounts it at dir, which is made if it is
// not there. It is empty: not even lost+found is on it. At the end of the test
// it is unmounted and gone, with what it holds.
func New(t testing.TB, dir string, size int64) (*Disk, error) {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("mount a disk: %w: needs root", ErrUnavailable)
	}
	image, err := newImage(size)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { image.Close() })
	if err := makeFileSystem(image); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the mount point: %w", err)
	}
	d := &Disk{dir: dir, image: image, loop: -1}
	if err := d.Mount(); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := d.leave(); err != nil {
			t.Error(err)
		}
	})
	if err := os.Remove(d.path("lost+found")); err != nil {
		return nil, fmt.Errorf("empty the new disk: %w", err)
	}
	return d, nil
}

// Dir is where the disk is mounted.
func (d *Disk) Dir() string { return d.dir }

// newImage makes a sparse file that has no name, so that it ends with the
// process.
func newImage(size int64) (*os.File, error) {
	image, err := os.CreateTemp("", "leasehold-disk-")
	if err != nil {
		return nil, fmt.Errorf("make the image of a disk: %w", err)
	}
	if err := errors.Join(os.Remove(image.Name()), image.Truncate(size)); err != nil {
		image.Close()
		return nil, fmt.Errorf("make the image of a disk: %w", err)
	}
	return image, nil
}

// makeFileSystem leaves no blocks for root (-m 0), or a full disk would not be
// full for a node that runs as root.
func makeFileSystem(image *os.File) error {
	mkfs, err := program("mkfs.ext4", "/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4")
	if err != nil {
		return err
	}
	cmd := exec.Command(mkfs, "-q", "-F", "-m", "0", "-E", "nodiscard", "/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{image}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make a file system: %w: %s", err, out)
	}
	return nil
}

// program finds a program by name or at one of the paths.
func program(name string, paths ...string) (string, error) {
	for _, p := range append([]string{name}, paths...) {
		if found, err := exec.LookPath(p); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("%w: no %s", ErrUnavailable, name)
}

// Mount mounts the disk again after Unmount.
func (d *Disk) Mount() error {
	if d.loop >= 0 {
		return fmt.Errorf("mount %s: it is mounted", d.dir)
	}
	number, device, err := attach(d.image)
	if err != nil {
		return err
	}
	// From here on the mount holds the loop device; without one, this lets go of it.
	defer device.Close()
	if err := unix.Mount(device.Name(), d.dir, "ext4", unix.MS_NOATIME, mountOptions); err != nil {
		return fmt.Errorf("mount %s: %w", d.dir, unavailable(err, unix.EPERM, unix.ENODEV))
	}
	d.loop = number
	return d.applyLimit(d.limit)
}

// unavailable makes errors that tell of the machine into ErrUnavailable.
func unavailable(err error, lacks ...unix.Errno) error {
	for _, l := range lacks {
		if errors.Is(err, l) {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	return err
}

// Unmount unmounts the disk and waits until the kernel has let go of it, so
// that it is never mounted twice. Nobody may use it any longer; it waits
// 20 s for processes that are about to end.
func (d *Disk) Unmount() error {
	if err := d.unmount(busyLimit); err != nil {
		return err
	}
	return d.released()
}

func (d *Disk) unmount(limit time.Duration) error {
	if err := d.applyLimit(Limit{}); err != nil {
		return err
	}
	err := within(limit, func() error { return unix.Unmount(d.dir, 0) })
	if err != nil {
		return fmt.Errorf("unmount %s: %w", d.dir, err)
	}
	return nil
}

// released waits until nobody has the loop device: a process with a mount
// namespace of its own may keep it for a moment.
func (d *Disk) released() error {
	err := within(busyLimit, func() error { return detached(d.loop) })
	if err != nil {
		return fmt.Errorf("wait for the end of %s: %w", d.dir, err)
	}
	d.loop = -1
	return nil
}

// leave unmounts for good. Where a process still uses the disk, the mount goes
// now and the rest with that process.
func (d *Disk) leave() error {
	if d.loop < 0 {
		return nil
	}
	err := d.unmount(leaveLimit)
	if errors.Is(err, unix.EBUSY) {
		err = unix.Unmount(d.dir, unix.MNT_DETACH)
	}
	d.loop = -1
	return err
}

// within tries until there is no error, for so long.
func within(limit time.Duration, try func() error) error {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-tick.C
	}
}
