package examples

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/handler/subprocess"
)

// batcher is a running batch.py.
type batcher struct {
	t      *testing.T
	dialog *subprocess.Probe
	said   chan string
}

func startBatcher(t *testing.T, db string) *batcher {
	t.Helper()
	b := &batcher{t: t, said: make(chan string, 100)}
	var err error
	b.dialog, err = subprocess.StartProbe(subprocess.Config{
		Command: []string{need(t, "python3"), "batch.py"}, Config: map[string]any{"db": db},
	}, handler.Env{Group: "billing", Topic: "readings"}, func(line []byte) { b.said <- string(line) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.dialog.Kill)
	if err := b.dialog.Init("0"); err != nil {
		t.Fatal(err)
	}
	return b
}

// hear checks the next answer, as JSON. Each has the token of init.
func (b *batcher) hear(want string) {
	b.t.Helper()
	var got, wanted map[string]any
	select {
	case line := <-b.said:
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			b.t.Fatalf("%s: %v", line, err)
		}
	case <-b.dialog.Ended():
		b.t.Fatal(b.dialog.Ending())
	case <-time.After(hang):
		b.t.Fatalf("no answer, want %s", want)
	}
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		b.t.Fatal(err)
	}
	wanted["token"] = b.dialog.Token()
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		b.t.Errorf("answered %v, want %v", got, wanted)
	}
}

// give sends a batch of partition 3, whose messages have every tenth sequence from the first on.
func (b *batcher) give(id string, first int, payloads ...string) {
	b.t.Helper()
	var messages []map[string]any
	for i, data := range payloads {
		messages = append(messages, map[string]any{"seq": first + 10*i, "partition": 3, "key": "k", "data": data})
	}
	line, err := json.Marshal(map[string]any{"type": "batch", "id": id, "partition": 3, "epoch": 41, "messages": messages})
	if err == nil {
		err = b.dialog.Say(append(line, '\n'))
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestBatchKeepsWhatComesBeforeABadMessageOnce(t *testing.T) {
	db := filepath.Join(t.TempDir(), "db")
	b := startBatcher(t, db)
	b.hear(`{"type": "ack", "id": "0", "wants": ["batch"]}`)
	b.give("b1", 100, `{"value": 1}`, `{"value": 2}`, `no reading`, `{"value": 3}`)
	b.hear(`{"type": "result", "id": "b1", "status": "partial", "ok_through": 110,
		"failed": {"seq": 120, "status": "reject",
			"reason": "no reading: JSONDecodeError('Expecting value: line 1 column 1 (char 0)')"}}`)
	b.give("b2", 120, `{"colour": "red"}`, `{"value": 3}`)
	b.hear(`{"type": "result", "id": "b2", "status": "partial", "ok_through": 119,
		"failed": {"seq": 120, "status": "reject", "reason": "no reading: KeyError('value')"}}`)
	for range 2 { // The second time is a repeat.
		b.give("b3", 110, `{"value": 2}`, `{"value": 2.5}`, `{"value": 3}`)
		b.hear(`{"type": "result", "id": "b3", "status": "ok"}`)
	}
	const want = `[(100, 1.0), (110, 2.0), (120, 2.5), (130, 3.0)]`
	if got := sqlite(t, db, "SELECT seq, value FROM readings ORDER BY seq"); got != want {
		t.Errorf("kept %s, want %s", got, want)
	}
}

// TestBatchServesTheHandlerKind has Leasehold's own side of the contract call it.
func TestBatchServesTheHandlerKind(t *testing.T) {
	db := filepath.Join(t.TempDir(), "db")
	h, err := subprocess.New(subprocess.Config{
		Command: []string{need(t, "python3"), "batch.py"}, Config: map[string]any{"db": db}, Processes: 1,
	}, handler.Env{Group: "billing", Topic: "readings"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	defer func() { cancel(); <-done }()
	if err := h.Assign(ctx, handler.Assignment{Partition: 3, Epoch: 41, NextSeq: 100}); err != nil {
		t.Fatal(err)
	}
	if n := h.BatchSize(3); n < 2 {
		t.Fatalf("its batches are of %d", n)
	}
	var ms []*handler.Message
	for i, data := range []string{`{"value": 1}`, `{"value": 2}`, `no reading`, `{"value": 3}`} {
		seq := uint64(100 + 10*i)
		ms = append(ms, &handler.Message{
			ID: fmt.Sprintf("readings/3/%d", seq), Topic: "readings", Group: "billing", Partition: 3, Seq: seq, Epoch: 41,
			Attempt: 1, MaxAttempts: 8, Key: "k", Timeout: hang, Data: []byte(data),
		})
	}
	r := h.HandleBatch(ctx, ms)
	if r.OK != 2 || !r.Named || r.Result.Status != handler.Reject {
		t.Errorf("%+v", r)
	}
}
