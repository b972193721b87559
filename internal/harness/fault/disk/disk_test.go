package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"leasehold/internal/harness/fault/namespace"
	"leasehold/internal/harness/testcluster"
)

// syncing marks the process that faults of fsync happen to, in its
// environment.
const syncing = "LEASEHOLD_TEST_SYNCING"

// TestMain runs the tests in a mount namespace of their own, if it may, so that
// no mount outlives them.
func TestMain(m *testing.M) {
	if dir := os.Getenv(syncing); dir != "" {
		syncForever(dir)
	}
	namespace.Main(m, func() int { return testcluster.Run(m) })
}

const size = 64 << 20

func newDisk(t *testing.T) *Disk {
	t.Helper()
	d, err := New(t, filepath.Join(t.TempDir(), "disk"), size)
	orSkip(t, err)
	return d
}

// orSkip ends the test where the machine lacks something.
func orSkip(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	must(t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// save writes a file, and syncs it with its directory if asked to.
func save(t *testing.T, path, text string, sync bool) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	defer f.Close()
	_, err = f.WriteString(text)
	must(t, err)
	if sync {
		must(t, f.Sync())
		syncDir(t, filepath.Dir(path))
	}
}

func syncDir(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	defer f.Close()
	must(t, f.Sync())
}

// contents is the text of a file, or why there is none.
func contents(path string) string {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "no file"
	}
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func want(t *testing.T, d *Disk, name, text string) {
	t.Helper()
	if got := contents(d.path(name)); got != text {
		t.Errorf("%s holds %q, want %q", name, got, text)
	}
}

func TestPowerLossKeepsWhatWasSyncedAndNothingElse(t *testing.T) {
	d := newDisk(t)
	save(t, d.path("synced"), "a", true)
	save(t, d.path("appended"), "a", true)
	save(t, d.path("renamed"), "a", true)
	save(t, d.path("appended"), "b", false)
	save(t, d.path("unsynced"), "a", false)
	must(t, os.Rename(d.path("renamed"), d.path("new name")))

	must(t, d.PowerOff())
	if got := contents(d.path("synced")); !strings.Contains(got, "input/output error") {
		t.Errorf("without power a file can be read: %q", got)
	}
	must(t, d.PowerOn())
	want(t, d, "synced", "a")
	want(t, d, "appended", "a")
	want(t, d, "renamed", "a")
	want(t, d, "unsynced", "no file")
	want(t, d, "new name", "no file")
	save(t, d.path("synced"), "c", true)
	want(t, d, "synced", "ac")
}

func TestDeadDiskFailsEveryCallAndComesBack(t *testing.T) {
	d := newDisk(t)
	save(t, d.path("old"), "a", true)
	f, err := os.OpenFile(d.path("old"), os.O_WRONLY, 0)
	must(t, err)
	must(t, d.Die())
	_, writeErr := f.WriteString("b")
	_, createErr := os.Create(d.path("new"))
	for what, err := range map[string]error{"write": writeErr, "sync": f.Sync(), "create": createErr} {
		if !errors.Is(err, unix.EIO) {
			t.Errorf("%s on a dead disk: %v", what, err)
		}
	}
	f.Close()
	must(t, d.PowerOn())
	want(t, d, "old", "a")
}

func TestReadOnlyDiskRefusesAnOpenFile(t *testing.T) {
	d := newDisk(t)
	save(t, d.path("old"), "a", true)
	f, err := os.OpenFile(d.path("old"), os.O_WRONLY, 0)
	must(t, err)
	must(t, d.ReadOnly())
	_, writeErr := f.WriteString("b")
	_, createErr := os.Create(d.path("new"))
	for what, err := range map[string]error{"write": errors.Join(writeErr, f.Sync()), "create": createErr} {
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("%s on a read-only disk: %v", what, err)
		}
	}
	want(t, d, "old", "a")
	f.Close()
	must(t, d.PowerOn())
	save(t, d.path("old"), "c", true)
	want(t, d, "old", "ac")
}

func TestFullDiskHasRoomForNothing(t *testing.T) {
	d := newDisk(t)
	save(t, d.path("old"), "a", true)
	must(t, d.Fill())
	if room, err := d.Room(); err != nil || room != 0 {
		t.Errorf("a full disk has room for %d: %v", room, err)
	}
	if err := os.WriteFile(d.path("new"), []byte("b"), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a byte on a full disk: %v", err)
	}
	// Room that somebody makes is taken away again.
	must(t, os.Remove(d.path("old")))
	must(t, d.Fill())
	if room, err := d.Room(); err != nil || room != 0 {
		t.Errorf("a disk filled twice has room for %d: %v", room, err)
	}
	must(t, d.Free())
	if room, err := d.Room(); err != nil || room < size/2 {
		t.Errorf("there is room for %d: %v", room, err)
	}
	save(t, d.path("new"), "c", true)
	want(t, d, "new", "c")
}

func TestStaleDiskHoldsWhatItHeld(t *testing.T) {
	d := newDisk(t)
	save(t, d.path("log"), "a", false)
	old, err := d.Snapshot()
	must(t, err)
	save(t, d.path("log"), "b", true)
	save(t, d.path("new"), "b", true)
	must(t, d.Restore(old))
	want(t, d, "log", "a")
	want(t, d, "new", "no file")
	save(t, d.path("log"), "c", true)
	must(t, d.Restore(old))
	want(t, d, "log", "a")
}

func TestWipedDiskIsEmpty(t *testing.T) {
	d := newDisk(t)
	must(t, os.MkdirAll(d.path("a/b"), 0o700))
	save(t, d.path("a/b/c"), "x", true)
	must(t, d.Fill())
	must(t, d.Wipe())
	entries, err := os.ReadDir(d.Dir())
	if err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestOnlyOurOwnDiskIsHurt(t *testing.T) {
	d := newDisk(t)
	must(t, d.Unmount())
	for what, hurt := range map[string]func() error{
		"PowerOff": d.PowerOff, "Die": d.Die, "ReadOnly": d.ReadOnly, "Fill": d.Fill, "Wipe": d.Wipe,
	} {
		if err := hurt(); err == nil {
			t.Errorf("%s hurt the file system below the mount point", what)
		}
	}
	must(t, d.Mount())
	must(t, d.PowerOff())
}

// A disk whose process was not ended in time must not be left behind.
func TestUsedDiskIsLeftWithItsLastUser(t *testing.T) {
	var number int
	var file *os.File
	t.Run("", func(t *testing.T) {
		d := newDisk(t)
		var err error
		file, err = os.Create(d.path("used"))
		must(t, err)
		number = d.loop
	})
	if file == nil {
		t.SkipNow()
	}
	if detached(number) == nil {
		t.Error("the disk went under a process")
	}
	must(t, file.Close())
	must(t, within(busyLimit, func() error { return detached(number) }))
}

func TestThrottledDiskIsSlow(t *testing.T) {
	d := newDisk(t)
	timed := func() float64 { return seconds(func() { save(t, d.path("f"), strings.Repeat("x", 4<<20), true) }) }
	orSkip(t, d.Throttle(Limit{Bytes: 2 << 20}))
	if took := timed(); took < 1 {
		t.Errorf("4 MiB at 2 MiB/s took %.1f s", took)
	}
	must(t, d.Unmount())
	must(t, d.Mount())
	if took := timed(); took < 1 {
		t.Errorf("4 MiB at 2 MiB/s took %.1f s after another mount", took)
	}
	must(t, d.Throttle(Limit{Operations: 10}))
	took := seconds(func() {
		for range 5 {
			save(t, d.path("g"), "x", true)
		}
	})
	if took < 0.5 {
		t.Errorf("5 times two syncs at 10 writes a second took %.1f s", took)
	}
	must(t, d.Throttle(Limit{}))
	rules, err := os.ReadFile(blkio + "write_bps_device")
	if err != nil || strings.Contains(string(rules), fmt.Sprintf("%d:%d ", loopMajor, d.loop)) {
		t.Errorf("rules left: %s, %v", rules, err)
	}
}
