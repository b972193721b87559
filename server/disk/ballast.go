package disk

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"leasehold/internal/bytesize"
	"leasehold/server/datadir"
)

// ballast is a file that takes room and is good for nothing else: on a full disk it is given up, so that the broker can
// work again at once.
type ballast struct {
	path string
	size uint64
}

// there reports whether the file is there, of the right size and with all its blocks: a file with a hole in it gives
// nothing back. One of another size is from another config and is removed.
func (b ballast) there() bool {
	var st unix.Stat_t
	if unix.Lstat(b.path, &st) != nil {
		return false
	}
	if b.size > 0 && uint64(st.Size) == b.size && uint64(st.Blocks)*512 >= b.size {
		return true
	}
	_ = os.Remove(b.path) // if it stays, it is tried again before it is made
	return false
}

// drop gives the room back.
func (b ballast) drop() error {
	err := os.Remove(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// create makes the file, or leaves none.
func (b ballast) create() error {
	f, err := datadir.OpenFile(b.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return fmt.Errorf("make the ballast: %w", err)
	}
	err = b.fill(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("make the ballast %s: %w", b.path, err), b.drop())
	}
	return nil
}

// fill takes the room, by writing where the file system cannot reserve it.
func (b ballast) fill(f *os.File) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, int64(b.size))
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	chunk := make([]byte, bytesize.MiB)
	for left := b.size; left > 0; {
		n := min(left, uint64(len(chunk)))
		_, _ = rand.Read(chunk) // never fails; zeros might be compressed to nothing
		if _, err := f.Write(chunk[:n]); err != nil {
			return err
		}
		left -= n
	}
	return nil
}
