package subprocess

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/workertest"
)

// startDialog starts the test child and returns what it says, line by line.
func startDialog(t *testing.T, behaviour string) (*Probe, func() string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var lines []string
	d, err := StartProbe(Config{
		Command: []string{exe}, Env: map[string]string{testChild: behaviour, "GORACE": "atexit_sleep_ms=0"},
	}, handler.Env{App: "leasehold/test", Node: "n1", Group: "billing", Topic: "orders"}, func(line []byte) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, string(line))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Kill)
	return d, func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(lines, "\n")
	}
}

func TestDialogHearsAllThatASubprocessIgnores(t *testing.T) {
	d, heard := startDialog(t, "chatty")
	a := handler.Assignment{Partition: 3, Epoch: 5, NextSeq: 7}
	err := errors.Join(d.Init("0"), d.Assign("1", a), d.Message(workertest.Message(3, 7, "confused")),
		d.Say([]byte(`{"type":"weather","id":"w"}`+"\n")), d.Revoke("2", a, "rebalance"))
	if err != nil {
		t.Fatal(err)
	}
	d.Stop("3")
	if err := d.Message(workertest.Message(3, 8, "ok")); !errors.Is(err, ErrChildEnded) {
		t.Errorf("a line after stop: %v", err)
	}
	<-d.Ended()
	if !d.Succeeded() || d.Ending() != "exit status 0" {
		t.Errorf("ended with %s", d.Ending())
	}
	lines := strings.SplitN(heard(), "\n", 3) // The second one answers init and says what this child can do.
	if lines[0] != "hello, I am a handler" || !strings.HasPrefix(lines[1], `{"id":"0","type":"ack"`) {
		t.Errorf("heard %q first", lines[:2])
	}
	const want = `{"id":"1","type":"ack"}
{"id":"orders/0/999","status":"reject","type":"result"}
{"id":"orders/3/7","type":"ack"}
{"attempt":2,"id":"orders/3/7","status":"reject","type":"result"}
{"after_ms":1500,"id":"orders/3/7","reason":"","status":"ok","type":"result"}
{"after_ms":1500,"id":"orders/3/7","reason":"","status":"reject","type":"result"}
{"after_ms":1500,"id":"orders/3/7","reason":"","status":"reject","type":"result"}
{"id":"2","type":"ack"}
{"id":"3","type":"ack"}`
	if got := lines[2]; got != want {
		t.Errorf("heard\n%s\nwant\n%s", got, want)
	}
}

func TestDialogEndsAChildThatStaysDeaf(t *testing.T) {
	d, heard := startDialog(t, "deaf-to-term")
	if err := d.Init("0"); err != nil {
		t.Fatal(err)
	}
	workertest.Soon(t, func() error {
		if heard() == "" {
			return errors.New("not ready")
		}
		return nil
	})
	d.Stop("1")
	d.Terminate()
	select {
	case <-d.Ended():
		t.Fatalf("ended with %s", d.Ending())
	// Nothing tells that a signal was ignored; too short a look hides a fault, never makes one.
	case <-time.After(50 * time.Millisecond):
	}
	d.Kill()
	if d.Succeeded() || d.Ending() != "signal: killed" {
		t.Errorf("ended with %s", d.Ending())
	}
}
