package disk

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Fill leaves no room on the disk, not one block. Where somebody has made room
// since, it can be called again.
func (d *Disk) Fill() error {
	if err := d.ours(); err != nil {
		return err
	}
	f, err := os.OpenFile(d.path(filler), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("fill %s: %w", d.dir, err)
	}
	defer f.Close()
	if err := grow(f); err != nil {
		return fmt.Errorf("fill %s: %w", d.dir, err)
	}
	return nil
}

// filler is the file that takes the room.
const filler = "filler"

// grow makes the file larger, by less and less, until not a byte fits.
func grow(f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	for chunk := int64(1) << 30; chunk >= 1; {
		err := unix.Fallocate(int(f.Fd()), 0, size, chunk)
		switch {
		case err == nil:
			size += chunk
		case errors.Is(err, unix.ENOSPC):
			chunk /= 2
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
	return nil
}

// Free takes back what Fill took.
func (d *Disk) Free() error {
	if err := os.Remove(d.path(filler)); err != nil {
		return fmt.Errorf("make room on %s: %w", d.dir, err)
	}
	return nil
}

// Room is how many bytes still fit.
func (d *Disk) Room() (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(d.dir, &s); err != nil {
		return 0, fmt.Errorf("ask for the room on %s: %w", d.dir, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// Wipe deletes everything on the disk. Nobody may use it.
func (d *Disk) Wipe() error {
	if err := d.ours(); err != nil {
		return err
	}
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return fmt.Errorf("wipe %s: %w", d.dir, err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(d.path(e.Name())); err != nil {
			return fmt.Errorf("wipe %s: %w", d.dir, err)
		}
	}
	return nil
}
