package disk

import (
	"errors"
	"fmt"
	"os"
)

// Limit bounds what a disk writes in a second. 0 is no bound.
type Limit struct {
	Bytes      int64
	Operations int
}

// blkio is the group of all processes in the first version of control groups.
// Writes from the page cache are counted there, whoever made them.
const blkio = "/sys/fs/cgroup/blkio/blkio.throttle."

// Throttle makes the disk slow for everybody, until Throttle(Limit{}). It
// holds across Unmount and Mount.
func (d *Disk) Throttle(l Limit) error {
	if err := d.ours(); err != nil {
		return err
	}
	if _, err := os.Stat(blkio + "write_bps_device"); err != nil {
		return fmt.Errorf("throttle a disk: %w: %w", ErrUnavailable, err)
	}
	if l != (Limit{}) {
		d.limit = l
	}
	if err := d.applyLimit(l); err != nil {
		return err
	}
	d.limit = l
	return nil
}

// applyLimit tells the kernel. A disk without limits tells it too, to undo what
// a killed run has left on this loop device, but where it cannot be told there
// is nothing to undo.
func (d *Disk) applyLimit(l Limit) error {
	err := errors.Join(
		d.write("write_bps_device", l.Bytes),
		d.write("write_iops_device", int64(l.Operations)),
	)
	if d.limit == (Limit{}) {
		return nil
	}
	return err
}

func (d *Disk) write(name string, value int64) error {
	rule := fmt.Sprintf("%d:%d %d", loopMajor, d.loop, value)
	f, err := os.OpenFile(blkio+name, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("throttle a disk: %w", err)
	}
	_, err = f.WriteString(rule)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("throttle a disk to %q: %w", rule, err)
	}
	return nil
}
