package datadir

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var n1 = Identity{Node: "n1", Cluster: "plant", Mode: Single}

func mustOpen(t *testing.T, path string, id Identity) *Dir {
	t.Helper()
	d, err := Open(path, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func wantRefusedDir(t *testing.T, path string, id Identity, parts ...string) {
	t.Helper()
	d, err := Open(path, id)
	if err == nil {
		_ = d.Close()
		t.Fatalf("the directory was opened as %+v", id)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

func TestDataDirKeepsItsIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "dir")
	d := mustOpen(t, path, n1)
	name, id := d.ServerName(), d.DirID()
	dev, ino := d.Lock()
	if !strings.HasPrefix(name, "n1-") || len(name) < len("n1-")+8 || len(id) != 32 || ino == 0 {
		t.Errorf("server name %q, dir id %q, inode %d", name, id, ino)
	}
	if d.KernelBootID() == "" {
		t.Error("no kernel boot id")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = mustOpen(t, path, n1)
	if dev2, ino2 := d.Lock(); d.ServerName() != name || d.DirID() != id || dev2 != dev || ino2 != ino {
		t.Error("the directory changed its name, id or lock between two opens")
	}
}

func TestDataDirRefusesAnotherIdentityWithBothValues(t *testing.T) {
	path := t.TempDir()
	if err := mustOpen(t, path, n1).Close(); err != nil {
		t.Fatal(err)
	}
	wantRefusedDir(t, path, Identity{Node: "n2", Cluster: "plant", Mode: Single}, `"n1"`, `"n2"`, "node.name")
	wantRefusedDir(t, path, Identity{Node: "n1", Cluster: "farm", Mode: Single}, `"plant"`, `"farm"`, "cluster.name")
	wantRefusedDir(t, path, Identity{Node: "n1", Cluster: "plant", Mode: Cluster},
		"single", "cluster", "empty directory")
	mustOpen(t, path, n1)
}

func TestDataDirHasOneHolder(t *testing.T) {
	path := t.TempDir()
	first := mustOpen(t, path, n1)
	wantRefusedDir(t, path, n1, path, "another leasehold process")
	if _, err := Open(path, n1); !errors.Is(err, ErrInUse) {
		t.Errorf("error %v is not ErrInUse", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, path, n1)
}

func TestDataDirRefusesAStoreWithoutAnIdentity(t *testing.T) {
	path := t.TempDir()
	if err := os.Mkdir(filepath.Join(path, storeDir), 0o700); err != nil {
		t.Fatal(err)
	}
	wantRefusedDir(t, path, n1, path, identityFile)
}

func TestDataDirRefusesADamagedOrForeignIdentityFile(t *testing.T) {
	for text, part := range map[string]string{
		"":               "damaged",
		"{}":             "fields are missing",
		`{"format":1}`:   "fields are missing",
		"{\"format\": 1": "damaged",
		`{"format":2,"dir_id":"a","node":"n1","cluster":"plant","mode":"single","server_name":"n1-a"}`: "another version",
	} {
		path := t.TempDir()
		if err := os.WriteFile(filepath.Join(path, identityFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		wantRefusedDir(t, path, n1, part)
	}
}

func TestBootCounterIsKeptAndDamageIsNotTakenForZero(t *testing.T) {
	path := t.TempDir()
	d := mustOpen(t, path, n1)
	if n, err := d.Boot(); n != 0 || err != nil {
		t.Errorf("a new directory has boot %d, %v", n, err)
	}
	const big = 1<<63 + 5
	for _, n := range []uint64{1, big} {
		if err := d.SetBoot(n); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Boot(); got != n || err != nil {
			t.Errorf("Boot = %d, %v after SetBoot(%d)", got, err, n)
		}
	}
	if err := os.WriteFile(filepath.Join(path, bootFile), []byte("7x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := d.Boot(); err == nil {
		t.Errorf("a damaged counter was read as %d", n)
	}
}

// A process that died leaves children behind for a moment. They hold the second lock, and a new life waits for them.
func TestHandlerLockWaitsForTheChildrenOfAFormerLife(t *testing.T) {
	path := t.TempDir()
	former := mustOpen(t, path, n1)
	lock, err := former.HandlerLock(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := former.HandlerLock(context.Background()); again != lock || err != nil {
		t.Errorf("a second HandlerLock gave %v, %v", again, err)
	}
	child := exec.Command("cat")
	child.ExtraFiles = []*os.File{lock}
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if err := former.Close(); err != nil { // as the kernel does when the process dies
		t.Fatal(err)
	}

	d := mustOpen(t, path, n1)
	short, cancel := context.WithTimeout(context.Background(), 5*handlerLockPoll)
	defer cancel()
	if _, err := d.HandlerLock(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("HandlerLock beside a former child: %v", err)
	}
	_ = stdin.Close()
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	long, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := d.HandlerLock(long); err != nil {
		t.Errorf("HandlerLock after the child ended: %v", err)
	}
}

func TestNetworkFileSystemsAreKnownAndLocalOnesAreNot(t *testing.T) {
	for _, remote := range []uint32{0x6969, 0xFF534D42, 0xFE534D42, 0x00C36400} {
		if networkMagic[remote] == "" {
			t.Errorf("file system %#x is let in", remote)
		}
	}
	for name, magic := range map[string]uint32{
		"ext4": 0xEF53, "xfs": 0x58465342, "btrfs": 0x9123683E, "zfs": 0x2FC12FC1, "tmpfs": 0x01021994,
		"overlay": 0x794C7630, "9p": 0x01021997, "f2fs": 0xF2F52010,
	} {
		if networkMagic[magic] != "" {
			t.Errorf("%s is refused", name)
		}
	}
	if err := refuseNetworkFS(t.TempDir()); err != nil {
		t.Error(err)
	}
}

func TestMountTypeIsFoundByDevice(t *testing.T) {
	table := []byte(`22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:55 / /mnt/far rw,nosuid shared:2 master:1 - fuse.sshfs host:/x rw,user_id=0
`)
	for device, want := range map[string]string{"254:0": "ext4", "0:55": "fuse.sshfs", "0:56": ""} {
		if got := typeOfDevice(table, device); got != want {
			t.Errorf("type of device %s = %q, want %q", device, got, want)
		}
	}
}
