package datadir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// touchAll does to a data directory what an agent does: opens it, takes the handlers' lock, saves a boot number, and
// opens the ballast and the probe of the disk. It returns the first error.
func touchAll(t *testing.T, path string) error {
	t.Helper()
	d, err := Open(path, n1)
	if err != nil {
		return err
	}
	defer d.Close()
	if _, err := d.HandlerLock(t.Context()); err != nil {
		return err
	}
	if err := d.SetBoot(7); err != nil {
		return err
	}
	if _, err := d.Boot(); err != nil {
		return err
	}
	if err := d.SetFormed(); err != nil {
		return err
	}
	for _, name := range []string{BallastFile, ProbeFile} { // As package disk does.
		f, err := OpenFile(filepath.Join(path, name), os.O_WRONLY|os.O_CREATE)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

var ownFiles = []string{
	lockFile, handlerFile, identityFile, identityFile + ".tmp", bootFile, bootFile + ".tmp", formedFile + ".tmp",
	BallastFile, ProbeFile,
}

func TestLinksInTheDataDirAreNotFollowed(t *testing.T) {
	for _, name := range ownFiles {
		path, outside := t.TempDir(), filepath.Join(t.TempDir(), "precious")
		if err := os.WriteFile(outside, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
		err := touchAll(t, path)
		if text, readErr := os.ReadFile(outside); readErr != nil || string(text) != "precious" {
			t.Errorf("%s: wrote through the link: %q, %v", name, text, readErr)
		}
		if replaced := name == bootFile; !replaced && (err == nil || !strings.Contains(err.Error(), name+" is a link")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A dangling link would make a file where it points to.
func TestDanglingLinksMakeNoFile(t *testing.T) {
	for _, name := range ownFiles {
		path, outside := t.TempDir(), filepath.Join(t.TempDir(), "new")
		if err := os.Symlink(outside, filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
		_ = touchAll(t, path)
		if _, err := os.Lstat(outside); err == nil {
			t.Errorf("%s: made the file that the link names", name)
		}
	}
}

func TestPipesInTheDataDirHoldNobodyUp(t *testing.T) {
	for _, name := range ownFiles {
		path := t.TempDir()
		if err := unix.Mkfifo(filepath.Join(path, name), 0o600); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- touchAll(t, path) }()
		select {
		case err := <-ended:
			if replaced := name == bootFile; !replaced && (err == nil || !strings.Contains(err.Error(), "not a regular file")) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: hangs", name)
		}
	}
}

func TestRootLeavesTheDataDirOfAnotherUserAlone(t *testing.T) {
	own := t.TempDir()
	if err := refuseOwner(own, os.Getuid()); err != nil {
		t.Errorf("our own: %v", err)
	}
	if err := refuseOwner(filepath.Join(own, "new"), 0); err != nil {
		t.Errorf("one that is not there: %v", err)
	}
	for name, uid := range map[string]int{"nobody": 65534, "'#54321'": 54321} {
		theirs := filepath.Join(own, name)
		if err := os.Mkdir(theirs, 0o700); err != nil {
			t.Fatal(err)
		}
		if os.Getuid() != 0 {
			name = nameOf(uint32(os.Getuid())) // Who is not root can only play it.
		} else if err := os.Chown(theirs, uid, uid); err != nil {
			t.Fatal(err)
		}
		if err := refuseOwner(theirs, 0); err == nil || !strings.Contains(err.Error(), "sudo -u "+name+" leasehold agent") {
			t.Errorf("%s: %v", name, err)
		}
		link := theirs + ".link"
		if err := os.Symlink(theirs, link); err != nil {
			t.Fatal(err)
		}
		if err := refuseOwner(link, 0); err == nil {
			t.Errorf("%s: root follows a link to it", name)
		}
		if os.Getuid() == 0 {
			if err := os.Lchown(link, uid, uid); err != nil {
				t.Fatal(err)
			}
			wantRefusedDir(t, link, n1, "belongs to")
			wantRefusedDir(t, theirs, n1, "belongs to", "runs as root")
			if left, _ := os.ReadDir(theirs); len(left) > 0 {
				t.Errorf("root left %v", left)
			}
		}
	}
}
