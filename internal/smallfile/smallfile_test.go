package smallfile

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOnlySmallRegularFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, size := range map[string]int{"empty": 0, "full": 1024, "over": 1025} {
		if err := os.WriteFile(at(name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(unix.Mkfifo(at("fifo"), 0o600), os.Symlink("full", at("link")),
		os.Symlink("fifo", at("fifolink")), os.Symlink("/dev/zero", at("zero"))); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for path, want := range map[string]string{
		at("empty"): "", at("full"): "", at("link"): "", "/proc/self/cmdline": "", "/proc/self/maps": "larger than 1 KiB",
		at("over"): "larger than 1 KiB",
		at("fifo"): "is a pipe", at("fifolink"): "is a pipe", dir: "is a directory", at("socket"): "is a socket",
		at("zero"):  "is a device",
		"/dev/zero": "is a device", "/dev/null": "is a device", "/dev/tty": "is a device",
	} {
		switch _, err := Read(path, 1024); {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), path)):
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if _, err := Read(at("nothing"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if text, err := Read(at("full"), 1024); err != nil || len(text) != 1024 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if _, err := KeyPair(at("full"), at("fifo")); err == nil || !strings.Contains(err.Error(), "is a pipe") {
		t.Errorf("a key that is a pipe: %v", err)
	}
}
