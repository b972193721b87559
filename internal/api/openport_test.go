package api

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"leasehold/internal/api/listen"
)

// askAs asks with a Host line as it stands, or none.
func askAs(t *testing.T, addr, host, path string) int {
	t.Helper()
	conn := dialPort(t, addr)
	defer conn.Close()
	if host != "" {
		host = "Host: " + host + "\r\n"
	}
	version := "1.1"
	if host == "" {
		version = "1.0"
	}
	fmt.Fprintf(conn, "GET %s HTTP/%s\r\n%sConnection: close\r\n\r\n", path, version, host)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestAnOpenPortAnswersToItsOwnNamesOnly(t *testing.T) {
	addr, _ := serve(t, fakeSource{status: &Status{}})
	_, port, _ := strings.Cut(addr, ":")
	for host, want := range map[string]int{
		"": 200, addr: 200, "127.0.0.1": 200, "localhost:" + port: 200, "LOCALHOST": 200, "localhost.": 200, "127.0.0.2": 200,
		"[::1]:" + port:      200,
		"[::ffff:127.0.0.1]": 200,
		"evil.example":       421, "evil.example:" + port: 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421,
		"10.0.0.11": 421,
		"0.0.0.0":   421, "2130706433": 421, "localhost@evil.example": 400, "leasehold": 421,
	} {
		for _, path := range []string{"/v1/status", "/livez"} {
			if got := askAs(t, addr, host, path); got != want {
				t.Errorf("Host %q, %s: %d, want %d", host, path, got, want)
			}
		}
	}
	s, err := New(Options{Listen: "127.0.0.1:0", Source: fakeSource{}, Token: strings.Repeat("0", 32)})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, s)
	if got := askAs(t, s.Addr(), "n1.plant.lan", "/livez"); got != 200 {
		t.Errorf("a port with a token: %d", got)
	}
}

func TestAnOpenPortShowsNoTexts(t *testing.T) {
	secret := "payload 4711"
	addr, socket := serve(t, fakeSource{status: &Status{
		Warnings: []string{secret, secret},
		Groups:   []Group{{Partitions: []Partition{{Error: secret}, {Paused: secret}, {State: "idle"}}}},
	}})
	s, err := NewClient(addr).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%+v", s); strings.Contains(text, secret) {
		t.Error(text)
	}
	parts := s.Groups[0].Partitions
	if parts[0].Error == "" || parts[1].Paused == "" || parts[2].Error+parts[2].Paused != "" ||
		!strings.Contains(fmt.Sprint(s.Warnings), "2 warnings") {
		t.Errorf("that there is something does not show: %+v", s)
	}
	for _, target := range []string{socket, listen.ReadOnlySocket(socket)} {
		s, err := NewClient(target).Status(t.Context())
		if err != nil || s.Groups[0].Partitions[0].Error != secret || len(s.Warnings) != 2 {
			t.Errorf("%s: %+v, %v", target, s, err)
		}
	}
}

// Whatever answers in an agent's place.
func TestAnswersAreBounded(t *testing.T) {
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		chunk := bytes.Repeat([]byte("1"), 1<<20)
		for sent := 0; sent < 4*maxAnswer; sent += len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	defer endless.Close()
	c := NewClient(endless.URL)
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrUnreachable) ||
		!strings.Contains(err.Error(), "larger than 96 MiB") {
		t.Errorf("status: %v", err)
	}
	stream, err := c.Tap(t.Context(), "orders", TapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if _, err := stream.Next(); err == nil {
		t.Error("a line without an end is taken for a message")
	}
}
