package wire

import (
	"math"
	"strings"
	"testing"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/header"
	"leasehold/worker/workertest"
)

// TestBatchAnswersMapToResults is the table of what handlers of all kinds can answer to messages 1001, 1003, 1005.
func TestBatchAnswersMapToResults(t *testing.T) {
	ms := workertest.Batch("a", "b", "c")
	for _, text := range []string{
		``, "  \n", `{"status":"ok"}`, `{"status":"ok","ok_through":1005}`, `{"ok_through":1005}`,
		`{"status":"partial","ok_through":1005}`,
		"\ufeff", "\ufeff" + `{"status":"ok"}`,
	} {
		workertest.WantAll(t, ParseBatchReply([]byte(text), ms), 3)
	}
	for _, c := range []struct {
		answer string
		ok     int
		named  bool
		want   handler.Status
		reason string
	}{
		{`{"status":"partial","ok_through":1003,"failed":{"seq":1005,"status":"retry","reason":"because"}}`, 2, true,
			handler.Retry, "because"},
		{`{"ok_through":1001,"failed":{"seq":1003,"status":"reject","reason":"because"}}`, 1, true, handler.Reject,
			"because"},
		{`{"ok_through":1002,"failed":{"seq":1003,"status":"pause"}}`, 1, true, handler.Pause, ""},
		{`{"status":"partial","failed":{"seq":1001,"status":"unavailable"}}`, 0, true, handler.Unavailable, ""},
		{`{"ok_through":1000,"failed":{"seq":1001,"status":"retry"}}`, 0, true, handler.Retry, ""},
		{`{"ok_through":1001,"failed":{"seq":1003,"status":"great"}}`, 1, true, handler.Retry, `unknown status "great"`},
		{`{"status":"partial","ok_through":1003,"reason":"because"}`, 2, false, handler.Retry, "because"},
		{`{"ok_through":1003}`, 2, false, handler.Retry, "did not say why it stopped before message 1005"},
		{`{"status":"partial"}`, 0, false, handler.Retry, "did not say why it stopped before message 1001"},
		{`{"status":"retry","reason":"because"}`, 0, false, handler.Retry, "because"},
		{`{"status":"reject","reason":"because"}`, 0, false, handler.Reject, "because"},
		{`{"status":"unavailable"}`, 0, false, handler.Unavailable, ""},
		{`{"status":"pause"}`, 0, false, handler.Pause, ""},
		{`{"status":"retry","ok_through":1003}`, 0, false, handler.Retry, ""},
		{`{}`, 0, false, handler.Retry, `unknown status ""`},
		{`{"ok_through":1006}`, 0, false, handler.Retry, "ok_through is 1006, and the batch ends at 1005"},
		{`{"status":"ok","ok_through":99999999}`, 0, false, handler.Retry, "ok_through is 99999999"},
		{`{"ok_through":1005,"failed":{"seq":1005,"status":"retry"}}`, 0, false, handler.Retry,
			"message 1005 has failed, and all up to 1005 is done"},
		{`{"ok_through":1001,"failed":{"seq":1005,"status":"retry"}}`, 0, false, handler.Retry, "message 1005 has failed"},
		{`{"failed":{"seq":1003,"status":"retry"}}`, 0, false, handler.Retry, "message 1003 has failed"},
		{`{"ok_through":1001,"failed":{"seq":1003,"status":"ok"}}`, 0, false, handler.Retry, "with status ok"},
		{`{"ok_through":-1}`, 0, false, handler.Retry, "unbelievable"},
		{`{"ok_through":1003.5}`, 0, false, handler.Retry, "unbelievable"},
		{`{"ok_through":"1003"}`, 0, false, handler.Retry, "unbelievable"},
		{`{"status":"ok"} and more`, 0, false, handler.Retry, "unbelievable"},
		{`<html>It works!</html>`, 0, false, handler.Retry, "It works!"},
		{`null`, 0, false, handler.Retry, "unknown status"},
		{`[]`, 0, false, handler.Retry, "unbelievable"},
		{strings.Repeat("x", MaxReply+1), 0, false, handler.Retry, "more than 65536 bytes"},
	} {
		t.Run(header.Cut(c.answer, 60), func(t *testing.T) {
			workertest.WantBatch(t, ParseBatchReply([]byte(c.answer), ms), c.ok, c.named, c.want, c.reason)
		})
	}
	got := ParseBatchReply([]byte(`{"ok_through":1001,"failed":{"seq":1003,"status":"retry","after_ms":1500}}`), ms)
	if got.Result.After != 1500*time.Millisecond {
		t.Errorf("after_ms is lost: %+v", got)
	}
}

func TestBatchesAreBoundedAsJSON(t *testing.T) {
	ms := workertest.Batch(strings.Repeat("\x01", 1000), strings.Repeat("\x01", 1000), "c") // Six bytes each in JSON.
	for limit, want := range map[int]int{0: 1, 10_000: 1, 12_600: 2, math.MaxInt: 3} {
		body, n, err := EncodeBatch(ms, limit)
		if err != nil || n != want || strings.Count(string(body), "\n") != n || n > 1 && len(body) > limit {
			t.Errorf("limit %d: %d messages in %d bytes, want %d; %v", limit, n, len(body), want, err)
		}
	}
}
