package wire

import (
	"slices"
	"testing"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/header"
	"leasehold/worker/workertest"
)

// wantSane checks what holds for every result that comes from an answer.
func wantSane(t *testing.T, r handler.Result) {
	t.Helper()
	known := []handler.Status{handler.OK, handler.Retry, handler.Reject, handler.Unavailable, handler.Pause}
	if !slices.Contains(known, r.Status) {
		t.Errorf("status %q", r.Status)
	}
	if len(r.Reason) > header.MaxReason || r.After < 0 || r.After > maxAfter {
		t.Errorf("reason of %d bytes, after %s", len(r.Reason), r.After)
	}
}

// wantSaneBatch checks what holds for every result of a batch of n messages that comes from an answer.
func wantSaneBatch(t *testing.T, r handler.BatchResult, n int) {
	t.Helper()
	switch {
	case r.OK < 0 || r.OK > n:
		t.Errorf("%d of %d messages are done", r.OK, n)
	case r.OK < n && r.Result.Status == handler.OK:
		t.Errorf("%d of %d messages are done, and nothing is wrong", r.OK, n)
	case r.OK < n:
		wantSane(t, r.Result)
	}
}

func FuzzAnswerOfAChild(f *testing.F) {
	for _, line := range []string{
		`{"type":"result","id":"orders/3/1001","status":"retry","reason":"x","after_ms":1e300}`,
		`{"type":"result","id":"b9","status":"partial","ok_through":1001,"failed":{"seq":1003,"status":"retry"}}`,
		`{"type":"ack","id":"0","wants":["batch"]}`,
		`{"type":"result","id":{}}`, "{", "print", "",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		a, ok := ParseReply(line)
		if !ok {
			return
		}
		if a.Type != "ack" && a.Type != "result" {
			t.Errorf("type %q", a.Type)
		}
		wantSane(t, a.Result())
		wantSaneBatch(t, a.BatchResult(workertest.Batch("a", "b", "c")), 3)
	})
}

func FuzzAnswerToABatch(f *testing.F) {
	for _, body := range []string{
		`{"status":"ok"}`, `{"ok_through":1003}`,
		`{"status":"partial","ok_through":1001,"failed":{"seq":1003,"status":"reject","after_ms":-1}}`,
		`{"ok_through":18446744073709551615}`, `{"failed":null}`, "thanks", "",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		wantSaneBatch(t, ParseBatchReply(body, workertest.Batch("a", "b", "c")), 3)
	})
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120", "")
	f.Add("Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 1999 23:58:59 GMT")
	f.Add("-1", "x")
	f.Add("1e400", "Friday, 31-Dec-99 23:59:59 GMT")
	f.Fuzz(func(t *testing.T, value, date string) {
		if got := retryAfter(value, date, time.Unix(1700000000, 0)); got < 0 || got > maxAfter {
			t.Errorf("%q, sent at %q: %s", value, date, got)
		}
	})
}
