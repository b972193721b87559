package servertest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TinyDisk is a file system of its own, in memory, that a test can fill up. It needs root.
type TinyDisk struct {
	Path string
}

// NewTinyDisk makes one of this many bytes. Where that is not possible the test fails and says that it was not run: a
// test of a full disk that passes without one proves nothing.
//
// It is mounted only until its directory is open: it then lives as long as this process has it open, and nothing is
// left behind however the test ends.
func NewTinyDisk(t testing.TB, size int64) *TinyDisk {
	t.Helper()
	place := t.TempDir()
	if err := unix.Mount("tmpfs", place, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
		t.Fatalf("not run: a disk that can be filled up needs root: mount a tmpfs: %v", err)
	}
	dir, err := os.Open(place)
	if err := errors.Join(err, unix.Unmount(place, unix.MNT_DETACH)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	return &TinyDisk{Path: fmt.Sprintf("/proc/self/fd/%d", dir.Fd())}
}

// Fill takes all room but this much. A second call takes or gives back what makes the difference.
func (d *TinyDisk) Fill(t testing.TB, leave int64) {
	t.Helper()
	f, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	size := max(0, info.Size()+d.Free(t)-leave)
	if size < info.Size() {
		err = f.Truncate(size)
	} else if size > info.Size() {
		err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	}
	if err != nil && !errors.Is(err, unix.ENOSPC) { // somebody else was faster: it is full
		t.Fatal(err)
	}
}

// Heal gives all of that back.
func (d *TinyDisk) Heal(t testing.TB) {
	t.Helper()
	if err := os.Remove(d.filler()); err != nil {
		t.Fatal(err)
	}
}

// Free is how much room there is.
func (d *TinyDisk) Free(t testing.TB) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(d.Path, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

func (d *TinyDisk) filler() string { return filepath.Join(d.Path, "filler") }
