package node_test

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"leasehold/server/servertest"
)

// listenNotify is the service manager's end of the notify socket.
func listenNotify(t *testing.T) <-chan string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	told := make(chan string, 1000)
	go func() {
		defer close(told)
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			told <- string(buf[:n])
		}
	}()
	return told
}

func TestServiceManagerFollowsANodesLife(t *testing.T) {
	told := listenNotify(t)
	t.Setenv("WATCHDOG_USEC", "1000000")
	o := newOne(t, "")
	o.Start(t)
	var heard []string
	hear := func(want string) {
		servertest.Eventually(t, time.Minute, func() error {
			for len(told) > 0 {
				heard = append(heard, <-told)
			}
			if !slices.Contains(heard, want) {
				return fmt.Errorf("not told %q, only %q", want, heard)
			}
			return nil
		})
	}
	hear("READY=1")
	hear("STATUS=ready: 8 partitions")
	hear("WATCHDOG=1")
	o.End(t)
	hear("STOPPING=1\nSTATUS=stopping: finishing calls and handing partitions over")
	if last := heard[len(heard)-1]; last[:8] != "STOPPING" {
		t.Errorf("said after the stop began: %q", last)
	}
}
