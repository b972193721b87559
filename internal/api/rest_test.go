package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"leasehold/internal/api/guard"
	"leasehold/internal/api/listen"
)

// sendAll sends a whole request before it looks for an answer, as Python's http.client does, and returns the answer.
func sendAll(t *testing.T, conn net.Conn, head string, body int) *http.Response {
	t.Helper()
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "%s\r\nHost: a\r\nContent-Length: %d\r\n\r\n", head, body); err != nil {
		t.Fatalf("%s: %v", head, err)
	}
	if n, err := io.Copy(conn, io.LimitReader(ones{}, int64(body))); err != nil {
		t.Fatalf("%s: after %d bytes of the body: %v", head, n, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s: %v", head, err)
	}
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Fatalf("%s: %v", head, err)
	}
	return resp
}

// ones is a number without an end.
type ones struct{}

func (ones) Read(p []byte) (int, error) { return copy(p, strings.Repeat("1", len(p))), nil }

// TestWhoSendsAllBeforeLookingSeesWhyItIsRefused: on the port and on the socket, whatever refuses the request.
func TestWhoSendsAllBeforeLookingSeesWhyItIsRefused(t *testing.T) {
	addr, socket := serveLimited(t, &fakeMessages{}, limits{})
	const publish = "POST /v1/topics/orders/messages?key=k HTTP/1.1"
	for _, c := range []struct {
		head string
		body int
		code int
	}{
		{publish, 1200, http.StatusRequestEntityTooLarge},
		{publish, 1_200_000, http.StatusRequestEntityTooLarge},
		{publish, 20_000_000, http.StatusRequestEntityTooLarge},
		{publish + "\r\nContent-Type: " + ndjson, 20_000_000, http.StatusRequestEntityTooLarge},
		{publish + "\r\nIdempotency-Key: \"x", 5_000_000, http.StatusBadRequest},
		{"POST /v1/topics/nope/messages?key=k HTTP/1.1", 5_000_000, http.StatusNotFound},
		{"POST /nowhere HTTP/1.1", 5_000_000, http.StatusNotFound},
		{"POST /v1/topics/orders/messages?key=k; HTTP/1.1", 5_000_000, http.StatusBadRequest},
		{"GET /v1/status HTTP/1.1", 5_000_000, http.StatusBadRequest},
	} {
		for name, dial := range map[string]func() (net.Conn, error){
			"socket": func() (net.Conn, error) { return listen.DialUnix(socket) },
			"port":   func() (net.Conn, error) { return net.Dial("tcp", addr) },
		} {
			conn, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			if resp := sendAll(t, conn, c.head+"\r\nAuthorization: Bearer secret", c.body); resp.StatusCode != c.code {
				t.Errorf("%s, %s with %d bytes: got %s", name, c.head, c.body, resp.Status)
			}
		}
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if resp := sendAll(t, conn, publish, 5_000_000); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the token: got %s", resp.Status)
	}
}

// TestWhoWaitsForAWordIsNotWaitedFor: a client that is refused before it was told to go on sends no body.
func TestWhoWaitsForAWordIsNotWaitedFor(t *testing.T) {
	_, socket := serveLimited(t, &fakeMessages{}, limits{})
	conn, err := listen.DialUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(guard.RestTimeout / 2)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /v1/topics/orders/messages?key=k HTTP/1.1\r\nHost: a\r\nExpect: "+
		"100-continue\r\nContent-Length: 20000000\r\n\r\n")
	if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 413") {
		t.Errorf("got %q, %v", answer, err)
	}
}

// TestTheRestOfABodyIsBounded: who never ends is cut off.
func TestTheRestOfABodyIsBounded(t *testing.T) {
	_, socket := serveLimited(t, &fakeMessages{}, limits{})
	conn, err := listen.DialUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /v1/topics/orders/messages?key=k HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", 1<<40)
	if n, err := io.Copy(conn, ones{}); err == nil || n < guard.RestBytes/2 || n > 2*guard.RestBytes {
		t.Errorf("%d bytes were taken, %v", n, err)
	}
}
