package sink

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/workertest"

	"github.com/hashicorp/go-hclog"
)

func newTestFile(t *testing.T, dir, sync string) *File {
	t.Helper()
	h, err := NewFile(FileConfig{Path: dir, Sync: sync}, handler.Env{Node: "n1", Group: "billing", Topic: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.close(3) })
	return h
}

// fileMessage is message seq of partition 3, stored seq seconds after the topic began.
func fileMessage(seq uint64) *handler.Message {
	m := workertest.Message(3, seq, "payload")
	m.Published = m.Published.Add(time.Duration(seq) * time.Second)
	return m
}

func appendAll(t *testing.T, h *File, seqs ...uint64) {
	t.Helper()
	for _, seq := range seqs {
		workertest.WantStatus(t, h.Handle(context.Background(), fileMessage(seq)), handler.OK, "")
	}
}

// seqsIn returns the sequences in the file of partition 3.
func seqsIn(t *testing.T, h *File) []uint64 {
	t.Helper()
	text, err := os.ReadFile(h.Name(3))
	if err != nil {
		t.Fatal(err)
	}
	var seqs []uint64
	for line := range strings.Lines(string(text)) {
		var l fileLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		seqs = append(seqs, l.Seq)
	}
	return seqs
}

func wantSeqs(t *testing.T, h *File, want ...uint64) {
	t.Helper()
	got, _ := json.Marshal(seqsIn(t, h))
	if text, _ := json.Marshal(want); string(got) != string(text) {
		t.Errorf("file holds %s, want %s", got, text)
	}
}

func TestFileLineHoldsTheWholeEnvelope(t *testing.T) {
	h := newTestFile(t, filepath.Join(t.TempDir(), "not", "yet"), SyncEach)
	appendAll(t, h, 7)
	m := fileMessage(8)
	m.Data = []byte{0xff}
	workertest.WantStatus(t, h.Handle(t.Context(), m), handler.OK, "")
	text, err := os.ReadFile(h.Name(3))
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(h.Name(3)) != "orders.billing.00003.ndjson" {
		t.Errorf("file is %s", h.Name(3))
	}
	lines := strings.Split(string(text), "\n")
	before, after, _ := strings.Cut(lines[0], `"started":"`)
	const want = `{"node":"n1","group":"billing","topic":"orders","partition":3,"seq":7,"epoch":5,"attempt":1,` +
		`"key":"c-17","subject":"orders.c-17","published":"2023-11-14T22:13:27.000000005Z",`
	if before != want || !strings.HasSuffix(after, `","data":"payload"}`) {
		t.Errorf("line is %s", lines[0])
	}
	if !strings.HasSuffix(lines[1], `"data_b64":"/w=="}`) {
		t.Errorf("line is %s", lines[1])
	}
}

func TestFileHoldsAMessageOnceAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	appendAll(t, newTestFile(t, dir, SyncNone), 1, 4, 9)
	h := newTestFile(t, dir, SyncNone)
	if err := h.Assign(t.Context(), handler.Assignment{Partition: 3, Epoch: 6, NextSeq: 2}); err != nil {
		t.Fatal(err)
	}
	appendAll(t, h, 4, 9, 12, 12)
	wantSeqs(t, h, 1, 4, 9, 12)
}

func TestFileSeesWhatAnotherNodeAppendedBeforeTheAssign(t *testing.T) {
	dir := t.TempDir()
	n1, n2 := newTestFile(t, dir, SyncNone), newTestFile(t, dir, SyncNone)
	a := handler.Assignment{Partition: 3}
	appendAll(t, n1, 1, 2)
	n1.Revoke(t.Context(), a, "rebalance")
	appendAll(t, n2, 2, 3)
	n2.Revoke(t.Context(), a, "rebalance")
	appendAll(t, n1, 3, 4)
	wantSeqs(t, n1, 1, 2, 3, 4)
}

func TestFileRemovesATornLine(t *testing.T) {
	for _, tail := range []string{`{"seq":9`, `{"seq":9,"data":"` + strings.Repeat("x", 200<<10), "\x00\x00\x00"} {
		dir := t.TempDir()
		h := newTestFile(t, dir, SyncNone)
		appendAll(t, h, 1, 4)
		f, err := os.OpenFile(h.Name(3), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(tail); err != nil {
			t.Fatal(err)
		}
		f.Close()
		h = newTestFile(t, dir, SyncNone)
		appendAll(t, h, 4, 9)
		wantSeqs(t, h, 1, 4, 9)
	}
	h := newTestFile(t, t.TempDir(), SyncNone)
	if err := os.WriteFile(h.Name(3), []byte(`{"se`), 0o600); err != nil {
		t.Fatal(err)
	}
	appendAll(t, h, 1)
	wantSeqs(t, h, 1)
}

func TestFileDoesNotGuessFromAForeignFile(t *testing.T) {
	h := newTestFile(t, t.TempDir(), SyncNone)
	if err := os.WriteFile(h.Name(3), []byte("shopping list\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	workertest.WantStatus(t, h.Handle(t.Context(), fileMessage(1)), handler.Unavailable, "none of ours")
	if err := h.Assign(t.Context(), handler.Assignment{Partition: 3}); err == nil {
		t.Error("assigned")
	}
}

// A topic recreated counts from 1 again: skipping its messages because an old file has passed them would lose them.
func TestFileDoesNotSkipMessagesOfANewTopic(t *testing.T) {
	h := newTestFile(t, t.TempDir(), SyncNone)
	appendAll(t, h, 1, 4, 9)
	for _, seq := range []uint64{2, 4, 9} {
		m := fileMessage(seq)
		m.Published = m.Published.Add(24 * time.Hour)
		workertest.WantStatus(t, h.Handle(t.Context(), m), handler.Unavailable, "belongs to a former topic")
	}
	wantSeqs(t, h, 1, 4, 9)
}

func TestFileSkipsAMessageThatAFastClockStored(t *testing.T) {
	h := newTestFile(t, t.TempDir(), SyncNone)
	fast := fileMessage(2)
	fast.Published = fast.Published.Add(time.Hour)
	workertest.WantStatus(t, h.Handle(t.Context(), fast), handler.OK, "")
	appendAll(t, h, 3)
	workertest.WantStatus(t, h.Handle(t.Context(), fast), handler.OK, "")
	wantSeqs(t, h, 2, 3)
}

func TestFileThatCannotBeWrittenIsUnavailable(t *testing.T) {
	h := newTestFile(t, t.TempDir(), SyncNone)
	if err := os.Symlink("/dev/full", h.Name(3)); err != nil {
		t.Fatal(err)
	}
	workertest.WantStatus(t, h.Handle(t.Context(), fileMessage(1)), handler.Unavailable, "no space left")
	if err := os.Remove(h.Name(3)); err != nil {
		t.Fatal(err)
	}
	appendAll(t, h, 1)
	wantSeqs(t, h, 1)
}

func TestLogKeepsPayloadsOut(t *testing.T) {
	for _, payload := range []bool{false, true} {
		var b workertest.LockedBuffer
		h, err := NewLog(LogConfig{Payload: payload}, handler.Env{Logger: hclog.New(&hclog.LoggerOptions{Output: &b})})
		if err != nil {
			t.Fatal(err)
		}
		workertest.WantStatus(t, h.Handle(t.Context(), workertest.Message(3, 7, "secret")), handler.OK, "")
		if got := b.String(); strings.Contains(got, "secret") != payload || strings.Count(got, "\n") != 1 ||
			!strings.Contains(got, "seq=7") {
			t.Errorf("payload %t: log is %q", payload, got)
		}
	}
}
