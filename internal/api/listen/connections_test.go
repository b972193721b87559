package listen

import (
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

func TestAFloodOfConnectionsIsBounded(t *testing.T) {
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := NewBounded(raw, 4)
	defer l.Close()
	go func() {
		for range 300 {
			net.Dial("tcp", raw.Addr().String())
		}
		raw.Close()
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			break
		}
		State(c, http.StateActive)
		l.mu.Lock()
		if len(l.open) > 4+surplus {
			t.Errorf("%d connections are open", len(l.open))
		}
		l.mu.Unlock()
	}
	if len(l.open) != 4+surplus {
		t.Errorf("%d connections are open, want %d", len(l.open), 4+surplus)
	}
}

func TestClientsAreToldApart(t *testing.T) {
	for remote, want := range map[string]string{
		"10.0.0.1:9": "10.0.0.1", "[::ffff:10.0.0.1]:9": "10.0.0.1", "[2001:db8:1:2:3::4]:9": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:9": "fe80::/64",
	} {
		if got := clientOf(fakeRemote(remote)); got != want {
			t.Errorf("%s: %q, want %q", remote, got, want)
		}
	}
}

// fakeRemote is a connection from an address.
type fakeRemote string

func (f fakeRemote) RemoteAddr() net.Addr           { return f }
func (f fakeRemote) Network() string                { return "tcp" }
func (f fakeRemote) String() string                 { return string(f) }
func (fakeRemote) LocalAddr() net.Addr              { return nil }
func (fakeRemote) Read([]byte) (int, error)         { return 0, io.EOF }
func (fakeRemote) Write([]byte) (int, error)        { return 0, io.EOF }
func (fakeRemote) Close() error                     { return nil }
func (fakeRemote) SetDeadline(time.Time) error      { return nil }
func (fakeRemote) SetReadDeadline(time.Time) error  { return nil }
func (fakeRemote) SetWriteDeadline(time.Time) error { return nil }

func TestConnectionsLeaveDescriptorsToTheStore(t *testing.T) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files)
	for soft, want := range map[uint64]int{1600: 200, 800: 100} {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: soft, Max: files.Max}); err != nil {
			t.Fatal(err)
		}
		if got := Limit(); got != want {
			t.Errorf("with %d descriptors: %d connections, want %d", soft, got, want)
		}
	}
}
