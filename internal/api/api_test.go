package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"leasehold/internal/api/listen"
)

type fakeSource struct {
	reasons []string
	status  *Status
}

func (f fakeSource) Ready() []string { return f.reasons }

func (f fakeSource) Status(context.Context) (*Status, error) {
	if f.status == nil {
		return nil, errors.New("the broker is starting")
	}
	return f.status, nil
}

func (f fakeSource) Topic(name string) (TopicInfo, bool) {
	info := TopicInfo{Name: "orders", Partitions: 64, Subject: "orders.*", Key: []int{1}, Server: "127.0.0.1:4222",
		MaxPayload: 1024}
	return info, name == "orders"
}

// serve runs a server on a free port and a socket until the test ends.
func serve(t *testing.T, source Source) (addr, socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "agent.sock")
	s, err := New(Options{Listen: "127.0.0.1:0", Socket: socket, Source: source})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, s)
	return s.Addr(), socket
}

func runUntilEnd(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case <-s.Started():
	case err := <-done:
		done <- nil
		t.Fatalf("Run ended at once: %v", err)
	}
}

func TestPortAndSocketGiveTheSameAnswers(t *testing.T) {
	lag := int64(7)
	want := &Status{V: 1, Cluster: "plant-7", Node: "n1", Ready: true, Warnings: []string{}, Nodes: []Node{},
		Topics: []Topic{}, Groups: []Group{{Name: "billing", Lag: &lag, Partitions: []Partition{{Owner: "n1"}}}}}
	addr, socket := serve(t, fakeSource{status: want})
	for _, target := range []string{addr, socket} {
		got, err := NewClient(target).Status(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", target, got, want)
		}
	}
}

func TestStatusSpellsUnknownLagNullAndEmptyListsAsLists(t *testing.T) {
	addr, _ := serve(t, fakeSource{status: &Status{Groups: []Group{{Name: "billing"}}}})
	resp, err := http.Get("http://" + addr + "/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	group := got["groups"].([]any)[0].(map[string]any)
	if lag, there := group["lag"]; !there || lag != nil {
		t.Errorf("lag is %v (present: %t), want null", lag, there)
	}
	for _, list := range []any{got["warnings"], got["nodes"], got["topics"], group["partitions"]} {
		if _, ok := list.([]any); !ok {
			t.Errorf("a list is %v in %v", list, got)
		}
	}
	if got["v"] != float64(1) {
		t.Errorf("v is %v, want 1", got["v"])
	}
}

func TestReadyTellsWhatTheNodeWaitsFor(t *testing.T) {
	_, socket := serve(t, fakeSource{reasons: []string{"waiting for n2"}})
	reasons, err := NewClient(socket).Ready(t.Context())
	if err != nil || len(reasons) != 1 || reasons[0] != "waiting for n2" {
		t.Errorf("got %v, %v", reasons, err)
	}
	_, socket = serve(t, fakeSource{})
	if reasons, err := NewClient(socket).Ready(t.Context()); err != nil || len(reasons) != 0 {
		t.Errorf("ready node: got %v, %v", reasons, err)
	}
}

func TestHealthAnswersCarryTheirCodes(t *testing.T) {
	addr, _ := serve(t, fakeSource{reasons: []string{"waiting for n2"}})
	for path, want := range map[string]int{"/livez": 200, "/readyz": 503, "/v1/status": 503, "/v1/topics/nope": 404,
		"/nope": 404} {
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
}

func TestLivezSaysWhyTheProcessShouldBeReplaced(t *testing.T) {
	var fault error
	s, err := New(Options{Listen: "127.0.0.1:0", Source: fakeSource{}, Alive: func() error { return fault }})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, s)
	for _, c := range []struct {
		fault error
		code  int
		body  string
	}{{nil, 200, `{"live":true}`}, {errors.New("no session"), 503, `{"live":false,"reason":"no session"}`}} {
		fault = c.fault
		resp, err := http.Get("http://" + s.Addr() + "/livez")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.code || strings.TrimSpace(string(body)) != c.body {
			t.Errorf("%v: %d %s, %v", c.fault, resp.StatusCode, body, err)
		}
	}
}

func TestClientTellsItsFailuresApart(t *testing.T) {
	addr, socket := serve(t, fakeSource{})
	if _, err := NewClient(socket).Topic(t.Context(), "nope"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown topic: %v", err)
	}
	if info, err := NewClient(addr).Topic(t.Context(), "orders"); err != nil || info.Partitions != 64 {
		t.Errorf("known topic: %+v, %v", info, err)
	}
	if _, err := NewClient(addr).Status(t.Context()); !errors.Is(err, ErrNotYet) {
		t.Errorf("status of a starting node: %v", err)
	}
	if _, err := NewClient(socket + ".nope").Status(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("absent socket: %v", err)
	}
}

func TestRunRefusesAPortInUseByItsKey(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := New(Options{Listen: l.Addr().String(), Source: fakeSource{}})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "http.listen") || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v", err)
	}
}

func TestOnlyLoopbackIsListenedOnWithoutAToken(t *testing.T) {
	if err := listen.Check("0.0.0.0:8222", true); err != nil {
		t.Errorf("with a token: %v", err)
	}
	for address, ok := range map[string]bool{
		"127.0.0.1:8222": true, "[::1]:8222": true, "localhost:8222": true, "127.0.0.1:0": true,
		"0.0.0.0:8222": false, ":8222": false, "10.0.0.1:8222": false, "127.0.0.1": false, "127.0.0.1:x": false,
		"127.0.0.1:70000": false,
	} {
		if err := listen.Check(address, false); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestSocketReplacesOneOfAFormerLifeAndNothingElse(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	former, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if l, err := listen.Unix(socket, listen.SocketMode); err == nil {
		l.Close()
		t.Error("took the socket of an agent that answers")
	}
	former.SetUnlinkOnClose(false)
	former.Close()
	l, err := listen.Unix(socket, listen.SocketMode)
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	l.Close()
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != listen.SocketMode {
		t.Errorf("mode: %v, %v", info, err)
	}
	file := socket + ".txt"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen.Unix(file, listen.SocketMode); err == nil {
		t.Error("replaced a plain file")
	}
}

func TestSocketMayLieDeepInTheFileSystem(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100), strings.Repeat("e", 100))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "agent.sock")
	s, err := New(Options{Socket: socket, Source: fakeSource{}})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, s)
	if _, err := NewClient(socket).Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPortAsksForTheTokenAndTheSocketDoesNot(t *testing.T) {
	const token = "0123456789abcdef0123456789abcdef"
	socket := filepath.Join(t.TempDir(), "agent.sock")
	s, err := New(Options{Listen: "127.0.0.1:0", Socket: socket, Token: token, Source: fakeSource{status: &Status{}}})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, s)
	if _, err := NewClient(socket).Status(t.Context()); err != nil {
		t.Errorf("socket: %v", err)
	}
	if _, err := NewClientWith(s.Addr(), ClientOptions{Token: token}).Status(t.Context()); err != nil {
		t.Errorf("right token: %v", err)
	}
	for _, wrong := range []string{"", "x", token + "0", token[1:]} {
		_, err := NewClientWith(s.Addr(), ClientOptions{Token: wrong}).Status(t.Context())
		if !errors.Is(err, ErrNotAllowed) {
			t.Errorf("token %q: %v", wrong, err)
		}
	}
	for path, want := range map[string]int{
		"/livez": 200, "/readyz": 200, "/v1/status": 401, "/v1/topics/orders": 401, "/": 401, "/nope": 401,
		"/livez/../v1/status": 401, "//v1/status": 401,
	} {
		resp, err := http.Get("http://" + s.Addr() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s without a token: %d, want %d", path, resp.StatusCode, want)
		}
	}
}
