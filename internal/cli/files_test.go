package cli

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A file that a flag names is read at once or refused at once, whatever it is.
func TestFlagsNameRegularFiles(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	addr := agent(t, ordersOf("a"))
	for path, says := range map[string]string{fifo: "is a pipe", "/dev/zero": "is a device", filepath.Dir(fifo): "is a directory"} {
		for _, args := range [][]string{
			{"status", "--config", path}, {"agent", "--config", path}, {"config", "validate", path},
			{"status", "--addr", "127.0.0.1:1", "--token-file", path}, {"status", "--addr", "https://127.0.0.1:1", "--tls-ca", path},
			{"pub", "orders", "--addr", addr, "--key", "k", "x", "--nkey-file", path},
			{"pub", "orders", "--addr", addr, "--key", "k", "x", "--user", "u", "--password-file", path},
			{"dev", "--dir", t.TempDir(), "--topics", path},
		} {
			run(t, args...).want(t, exitUsage, says)
		}
	}
}
