package webhook

import (
	"bufio"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"leasehold/worker/handler"
	"leasehold/worker/workertest"
)

// refuseUnread runs a service that answers each request with 413 as soon as its head is there, and closes without
// reading the body.
func refuseUnread(t *testing.T) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			for in := bufio.NewReaderSize(conn, 16); ; {
				line, err := in.ReadString('\n')
				if err != nil || strings.TrimSpace(line) == "" {
					break
				}
			}
			// The client shows it.
			_, _ = io.WriteString(conn,
				"HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 7\r\n\r\ntoo big")
			conn.Close()
		}
	}()
	return "http://" + l.Addr().String()
}

func TestHTTPAnswerCountsThoughTheBodyWasNotRead(t *testing.T) {
	h := newHTTP(t, refuseUnread(t), nil)
	for _, size := range []int{100, 900_000, 7_000_000} {
		for range 20 {
			workertest.WantStatus(t, workertest.Handle(t, h, workertest.Message(0, 1, strings.Repeat("x", size))),
				handler.Reject, "413 Request Entity Too Large: too big")
		}
	}
}

// endedConn takes some bytes and then says that the other side has closed.
type endedConn struct {
	net.Conn
	room int
}

func (c *endedConn) Write(p []byte) (int, error) {
	n := min(c.room, len(p))
	c.room -= n
	if n < len(p) {
		return n, syscall.EPIPE
	}
	return n, nil
}

func TestHTTPWriteThatSendsNothingStillFails(t *testing.T) {
	c := &answerConn{Conn: &endedConn{}}
	if _, err := c.Write([]byte("request")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the first write of a request: %v", err)
	}
	c = &answerConn{Conn: &endedConn{room: 3}}
	for range 2 {
		if n, err := c.Write([]byte("request")); n != 7 || err != nil {
			t.Errorf("a later write: %d, %v", n, err)
		}
	}
	beginRequest(c)
	if _, err := c.Write([]byte("next request")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the first write of the next request: %v", err)
	}
}

func TestHTTPBodyThatNobodyReadsOrAnswersBreaksOff(t *testing.T) {
	url := serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	})
	workertest.WantStatus(t, workertest.Handle(t, newHTTP(t, url, nil),
		workertest.Message(0, 1, strings.Repeat("x", 7_000_000))), handler.Retry, "broke off")
}

// TestHTTPAnswerCountsOnAKeptConnectionWithTLS: the same where the transport writes records, not bytes, and not as
// its first request.
func TestHTTPAnswerCountsOnAKeptConnectionWithTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 1000 {
			return
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		// The client shows it.
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Payload Too Large\r\nConnection: close\r\nContent-Length: 7\r\n\r\ntoo big")
		conn.Close()
	}))
	t.Cleanup(s.Close)
	ca := workertest.WriteFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	h := newHTTP(t, s.URL, func(c *Config) { c.CAFile = ca })
	for range 20 {
		workertest.WantStatus(t, workertest.Handle(t, h, workertest.Message(0, 1, "small")), handler.OK, "")
		workertest.WantStatus(t, workertest.Handle(t, h, workertest.Message(0, 2, strings.Repeat("x", 7_000_000))),
			handler.Reject, "too big")
	}
}
