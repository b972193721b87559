package disk

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Snapshot is what a disk held at some time, for Restore. It needs no end.
type Snapshot struct{ image *os.File }

// Snapshot copies the disk. Nobody may use it meanwhile: it is unmounted for
// the copy.
func (d *Disk) Snapshot() (Snapshot, error) {
	info, err := d.image.Stat()
	if err != nil {
		return Snapshot{}, fmt.Errorf("snapshot %s: %w", d.dir, err)
	}
	image, err := newImage(info.Size())
	if err != nil {
		return Snapshot{}, err
	}
	if err := d.whileUnmounted(func() error { return copySparse(image, d.image) }); err != nil {
		image.Close()
		return Snapshot{}, fmt.Errorf("snapshot %s: %w", d.dir, err)
	}
	return Snapshot{image: image}, nil
}

// Restore makes the disk what it was: a stale disk. Nobody may use it.
func (d *Disk) Restore(s Snapshot) error {
	if err := d.whileUnmounted(func() error { return copySparse(d.image, s.image) }); err != nil {
		return fmt.Errorf("restore %s: %w", d.dir, err)
	}
	return nil
}

func (d *Disk) whileUnmounted(do func() error) error {
	if err := d.Unmount(); err != nil {
		return err
	}
	return errors.Join(do(), d.Mount())
}

// copySparse makes to the same as from, holes included.
func copySparse(to, from *os.File) error {
	info, err := from.Stat()
	if err != nil {
		return err
	}
	if err := errors.Join(to.Truncate(0), to.Truncate(info.Size())); err != nil {
		return err
	}
	for end := int64(0); ; {
		start, err := from.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only a hole is left
		}
		if err != nil {
			return err
		}
		if end, err = from.Seek(start, unix.SEEK_HOLE); err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(to, start), io.NewSectionReader(from, start, end-start)); err != nil {
			return err
		}
	}
}
