package api

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"leasehold/internal/api/listen"
)

func dialPort(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestIdleConnectionsMakeRoomForNewOnes: a client that only connects, on the port or the socket, keeps no other client
// out: its oldest connections are closed.
func TestIdleConnectionsMakeRoomForNewOnes(t *testing.T) {
	addr, socket := serveLimited(t, &fakeMessages{}, limits{connections: 4})
	for name, dial := range map[string]func() (net.Conn, error){
		"port":   func() (net.Conn, error) { return net.Dial("tcp", addr) },
		"socket": func() (net.Conn, error) { return listen.DialUnix(socket) },
	} {
		var idle []net.Conn
		for range 200 {
			conn, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			idle = append(idle, conn)
		}
		conn, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if answer, err := io.ReadAll(conn); err != nil || !strings.Contains(string(answer), "200 OK") {
			t.Errorf("%s: beside idle connections: %q, %v", name, answer, err)
		}
		for _, c := range idle[:len(idle)-4] {
			c.SetReadDeadline(time.Now().Add(30 * time.Second))
			if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
				t.Fatalf("%s: an old idle connection is still open: %v", name, err)
			}
		}
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func TestConnectionsInARequestStayAndOthersAreTold(t *testing.T) {
	slow := slowMessages{entered: make(chan struct{}), leave: make(chan struct{})}
	addr, _ := serveLimited(t, slow, limits{connections: 2})
	codes := make(chan int)
	for range 2 {
		go func() { codes <- publishFrom(t, addr, "127.0.0.1", 1) }()
		<-slow.entered
	}
	resp, err := http.Get("http://" + addr + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !resp.Close {
		t.Errorf("a connection too many: %s, %v", resp.Status, resp.Header)
	}
	close(slow.leave)
	for range 2 {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("got %d", code)
		}
	}
}

// TestStrangersKeepNoConnection: a caller without the token is answered and the connection ends; with it, it stays.
func TestStrangersKeepNoConnection(t *testing.T) {
	addr, _ := serveLimited(t, &fakeMessages{}, limits{})
	open, _ := serveMessages(t, &fakeMessages{}, "")
	for _, c := range []struct {
		addr, token string
		ends        bool
	}{{addr, "", true}, {addr, "wrong", true}, {addr, "secret", false}, {open, "", true}} {
		req, err := http.NewRequest("GET", "http://"+c.addr+"/livez", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+c.token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.Close != c.ends {
			t.Errorf("token %q: the connection ends: %v", c.token, resp.Close)
		}
	}
}

// TestAFloodOfConnectionsIsBounded counts what the listener holds while clients open many more.
func TestALargeHeadIsRefused(t *testing.T) {
	addr, _ := serveLimited(t, &fakeMessages{}, limits{})
	conn := dialPort(t, addr)
	fmt.Fprintf(conn, "GET /livez HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n", strings.Repeat("x", 60<<10))
	if answer, _ := io.ReadAll(conn); !strings.Contains(string(answer), "431") {
		t.Errorf("%q", answer)
	}
}
