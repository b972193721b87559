package disk

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// PowerOff takes the disk's power: what was not synced is lost, and every
// further call fails with EIO. For the power loss of a node: freeze its
// processes, PowerOff, kill them, PowerOn, start it. Freezing first keeps it
// from seeing an error that no machine without power sees.
func (d *Disk) PowerOff() error {
	if err := d.shutDown(); err != nil {
		return fmt.Errorf("take the power of %s: %w", d.dir, err)
	}
	return nil
}

// PowerOn brings the disk back with what had reached it, and waits for
// processes that were killed to let go of it.
func (d *Disk) PowerOn() error {
	if err := d.Unmount(); err != nil {
		return err
	}
	return d.Mount()
}

// Die makes every further call fail with EIO, under processes that live on.
// PowerOn heals it, once nobody uses it.
func (d *Disk) Die() error {
	if err := d.shutDown(); err != nil {
		return fmt.Errorf("let %s die: %w", d.dir, err)
	}
	return nil
}

// ReadOnly makes the file system read-only at once, as ext4 does by itself
// when it finds the device damaged, whoever has files open for writing. What
// was not synced may be lost. PowerOn heals it, once nobody uses it.
func (d *Disk) ReadOnly() error {
	if err := d.ours(); err != nil {
		return err
	}
	if err := unix.Mount("", d.dir, "", unix.MS_REMOUNT|unix.MS_NOATIME, "errors=remount-ro,abort"); err != nil {
		return fmt.Errorf("make %s read-only: %w", d.dir, err)
	}
	return nil
}

// FS_IOC_SHUTDOWN of linux/fs.h, and its way not to write the journal first.
const (
	ioctlShutdown = 0x8004587d
	noLogFlush    = 2
)

// shutDown stops all I/O of the file system.
func (d *Disk) shutDown() error {
	if err := d.ours(); err != nil {
		return err
	}
	dir, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.IoctlSetPointerInt(int(dir.Fd()), ioctlShutdown, noLogFlush)
}

// ours refuses to hurt what is not the disk's own file system.
func (d *Disk) ours() error {
	var here unix.Stat_t
	if err := unix.Stat(d.dir, &here); err != nil {
		return fmt.Errorf("look at %s: %w", d.dir, err)
	}
	if d.loop < 0 || here.Dev != unix.Mkdev(loopMajor, uint32(d.loop)) {
		return fmt.Errorf("%s is not our disk: device %#x", d.dir, here.Dev)
	}
	return nil
}

func (d *Disk) path(name string) string { return filepath.Join(d.dir, name) }

// Sync writes everything to the disk.
func (d *Disk) Sync() error {
	dir, err := os.Open(d.dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", d.dir, err)
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", d.dir, err)
	}
	return nil
}
