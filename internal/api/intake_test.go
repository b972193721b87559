package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"leasehold/internal/api/listen"
)

// slowMessages holds requests until it is told to go on.
type slowMessages struct {
	fakeTaps
	entered, leave chan struct{}
}

func (s slowMessages) Publish(context.Context, string, []NewMessage) ([]Receipt, error) {
	s.entered <- struct{}{}
	<-s.leave
	return []Receipt{{}}, nil
}

// serveLimited runs a server with limits and the token "secret".
func serveLimited(t *testing.T, m Messages, l limits) (addr, socket string) {
	t.Helper()
	socket = t.TempDir() + "/agent.sock"
	s, err := New(Options{Listen: "127.0.0.1:0", Socket: socket, Source: fakeSource{}, Messages: m, Token: "secret",
		limits: l})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, s)
	return s.Addr(), socket
}

// publishFrom publishes a body of so many bytes from an address of this machine.
func publishFrom(t *testing.T, addr, local string, bytes int) int {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext}}
	req, err := http.NewRequest("POST", "http://"+addr+"/v1/topics/orders/messages?key=k",
		strings.NewReader(strings.Repeat("1", bytes)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", ndjson)
	req.Header.Set("Authorization", "Bearer secret")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
	return resp.StatusCode
}

// beginBody sends the head of a request to publish and the beginning of its body, and nothing more.
func beginBody(t *testing.T, conn net.Conn, header, body string) {
	t.Helper()
	_, err := fmt.Fprintf(conn,
		"POST /v1/topics/orders/messages?key=k HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\n%s\r\n\r\n%s", ndjson, header, body)
	if err != nil {
		t.Fatal(err)
	}
}

// TestIdleSendersHoldNoMemory: a body of unknown length, and one whose length is declared, weigh what has arrived of
// them.
func TestIdleSendersHoldNoMemory(t *testing.T) {
	for _, header := range []string{"Transfer-Encoding: chunked", "Content-Length: 16777216"} {
		_, socket := serveLimited(t, &fakeMessages{}, limits{})
		for range 100 {
			conn, err := listen.DialUnix(socket)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			beginBody(t, conn, header, "")
		}
		if resp, _ := (post{query: "?key=k", body: "hi"}).send(t, socket); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: beside idle senders: got %s", header, resp.Status)
		}
	}
}

func TestOneClientLeavesRoomForOthers(t *testing.T) {
	slow := slowMessages{entered: make(chan struct{}), leave: make(chan struct{})}
	addr, _ := serveLimited(t, slow, limits{bodies: 8 << 20})
	codes := make(chan int)
	for range 2 {
		go func() { codes <- publishFrom(t, addr, "127.0.0.1", 15<<17) }() // Two are just below one half.
		<-slow.entered
	}
	if code := publishFrom(t, addr, "127.0.0.1", 1<<20); code != http.StatusTooManyRequests {
		t.Errorf("a client that holds half: got %d", code)
	}
	go func() { codes <- publishFrom(t, addr, "127.0.0.2", 1<<20) }()
	<-slow.entered
	close(slow.leave)
	for range 3 {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("got %d", code)
		}
	}
	go func() { <-slow.entered }()
	if code := publishFrom(t, addr, "127.0.0.1", 2<<20); code != http.StatusOK {
		t.Errorf("once all is free again: got %d", code)
	}
}

// TestSmallMemoryMeansSmallBodies: a body that could never have its share is refused for its size, not to be sent
// again.
func TestSmallMemoryMeansSmallBodies(t *testing.T) {
	before := debug.SetMemoryLimit(64 << 20)
	defer debug.SetMemoryLimit(before)
	for maxPayload, want := range map[int64]int64{1024: 8 << 20, 4 << 20: 32 << 20} {
		if l := (limits{}).withDefaults(maxPayload); l.bodies != want {
			t.Errorf("for messages of %d bytes: %d bytes, want %d", maxPayload, l.bodies, want)
		}
	}
	addr, _ := serveLimited(t, &fakeMessages{}, limits{})
	if code := publishFrom(t, addr, "127.0.0.1", 2<<20+1); code != http.StatusRequestEntityTooLarge {
		t.Errorf("more than a quarter: got %d", code)
	}
	if code := publishFrom(t, addr, "127.0.0.1", 2<<20); code != http.StatusOK {
		t.Errorf("a quarter: got %d", code)
	}
}

func TestRequestsAreBoundedInNumber(t *testing.T) {
	in := newIntake(1 << 20)
	var open []*share
	for {
		s, err := in.open("a")
		if err != nil {
			break
		}
		open = append(open, s)
	}
	if most := 1 << 20 / requestCost / 2; len(open) != most {
		t.Errorf("one client has %d requests, want %d", len(open), most)
	}
	if _, err := in.open("b"); err != nil {
		t.Errorf("another client: %v", err)
	}
	for _, s := range open {
		s.close()
	}
	if len(in.by) != 1 || in.used != requestCost {
		t.Errorf("%d clients hold %d bytes", len(in.by), in.used)
	}
}

func TestASlowBodyEndsAndIsNotPublished(t *testing.T) {
	for name, c := range map[string]struct {
		l            limits
		header, body string
	}{
		"nothing comes":         {limits{pace: 50 * time.Millisecond}, "Transfer-Encoding: chunked", ""},
		"it stops":              {limits{pace: 50 * time.Millisecond}, "Content-Length: 100000", strings.Repeat("x", 50_000)},
		"a whole line comes":    {limits{pace: 50 * time.Millisecond}, "Transfer-Encoding: chunked", "4\r\n{}\n\n\r\n"},
		"it takes all too long": {limits{body: 50 * time.Millisecond}, "Content-Length: 100000", strings.Repeat("x", 50_000)},
	} {
		f := &fakeMessages{}
		_, socket := serveLimited(t, f, c.l)
		conn, err := listen.DialUnix(socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		beginBody(t, conn, c.header, c.body)
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.Contains(string(answer), "408 Request Timeout") ||
			!strings.Contains(string(answer), "too slowly") || f.got != nil {
			t.Errorf("%s: %q, %v; published %v", name, answer, err, f.got)
		}
	}
}

func TestASteadySenderMayTakeLongerThanOneStep(t *testing.T) {
	f := &fakeMessages{}
	_, socket := serveLimited(t, f, limits{pace: 2 * time.Second})
	conn, err := listen.DialUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	beginBody(t, conn, "Content-Length: 131072\r\nConnection: close", "")
	tick := time.NewTicker(150 * time.Millisecond)
	defer tick.Stop()
	for range 16 {
		<-tick.C
		if _, err := io.WriteString(conn, strings.Repeat("1", 8<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if answer, err := io.ReadAll(conn); err != nil || !strings.Contains(string(answer), "200 OK") || len(f.got) != 1 {
		t.Errorf("%q, %v", answer, err)
	}
}

func TestBusyIsFinalForABodyOnTheWay(t *testing.T) {
	in := newIntake(4 * requestCost)
	s, err := in.open("a")
	if err != nil {
		t.Fatal(err)
	}
	b := &pacedBody{body: strings.NewReader(strings.Repeat("x", 4*requestCost)), share: s,
		control: http.NewResponseController(nil)}
	if _, err := io.ReadAll(b); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v", err)
	}
	if s.close(); in.used != 0 {
		t.Errorf("%d bytes are left behind", in.used)
	}
}
