package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A file that a flag names is read at once or refused at once, whatever it is.
func TestFlagsNameRegularFiles(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	addr := agent(t, ordersOf("a"))
	for path, says := range map[string]string{fifo: "is a pipe", "/dev/zero": "is a device",
		filepath.Dir(fifo): "is a directory"} {
		for _, args := range [][]string{
			{"status", "--config", path}, {"agent", "--config", path}, {"config", "validate", path},
			{"status", "--addr", "127.0.0.1:1", "--token-file", path}, {"status", "--addr", "https://127.0.0.1:1", "--tls-ca",
				path},
			{"pub", "orders", "--addr", addr, "--key", "k", "x", "--nkey-file", path},
			{"pub", "orders", "--addr", addr, "--key", "k", "x", "--user", "u", "--password-file", path},
			{"dev", "--dir", t.TempDir(), "--topics", path},
		} {
			run(t, args...).want(t, exitUsage, says)
		}
	}
}

// A signal ends a command that waits for a pipe, which no context reaches.
func TestASignalEndsACommandThatReadsAPipe(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	silent, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	defer writer.Close()
	addr := agent(t, ordersOf("a"))
	for name, c := range map[string]struct {
		in   io.Reader
		args []string
	}{
		"a pipe that nobody writes to": {strings.NewReader(""), []string{"pub", "orders", "--addr", addr, "--key-field", "k",
			"--file", fifo}},
		"stdin that says nothing": {silent, []string{"user", "hash"}},
	} {
		var errs bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		app := &App{Run: fakeNode, In: c.in, Out: io.Discard, Err: &errs, interruptLimit: 50 * time.Millisecond}
		code := make(chan int, 1)
		go func() { code <- app.Main(ctx, c.args) }()
		cancel()
		select {
		case got := <-code:
			if got == exitOK {
				t.Errorf("%s: code 0", name)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: does not end", name)
		}
	}
}
