package worker

import (
	"math"
	"strings"
	"testing"
	"time"
)

// TestBatchAnswersMapToResults is the table of what handlers of all kinds can answer to messages 1001, 1003, 1005.
func TestBatchAnswersMapToResults(t *testing.T) {
	ms := testBatch("a", "b", "c")
	for _, text := range []string{
		``, "  \n", `{"status":"ok"}`, `{"status":"ok","ok_through":1005}`, `{"ok_through":1005}`, `{"status":"partial","ok_through":1005}`,
		"\ufeff", "\ufeff" + `{"status":"ok"}`,
	} {
		wantAll(t, parseBatchReply([]byte(text), ms), 3)
	}
	for _, c := range []struct {
		answer string
		ok     int
		named  bool
		want   Status
		reason string
	}{
		{`{"status":"partial","ok_through":1003,"failed":{"seq":1005,"status":"retry","reason":"because"}}`, 2, true, Retry, "because"},
		{`{"ok_through":1001,"failed":{"seq":1003,"status":"reject","reason":"because"}}`, 1, true, Reject, "because"},
		{`{"ok_through":1002,"failed":{"seq":1003,"status":"pause"}}`, 1, true, Pause, ""},
		{`{"status":"partial","failed":{"seq":1001,"status":"unavailable"}}`, 0, true, Unavailable, ""},
		{`{"ok_through":1000,"failed":{"seq":1001,"status":"retry"}}`, 0, true, Retry, ""},
		{`{"ok_through":1001,"failed":{"seq":1003,"status":"great"}}`, 1, true, Retry, `unknown status "great"`},
		{`{"status":"partial","ok_through":1003,"reason":"because"}`, 2, false, Retry, "because"},
		{`{"ok_through":1003}`, 2, false, Retry, "did not say why it stopped before message 1005"},
		{`{"status":"partial"}`, 0, false, Retry, "did not say why it stopped before message 1001"},
		{`{"status":"retry","reason":"because"}`, 0, false, Retry, "because"},
		{`{"status":"reject","reason":"because"}`, 0, false, Reject, "because"},
		{`{"status":"unavailable"}`, 0, false, Unavailable, ""},
		{`{"status":"pause"}`, 0, false, Pause, ""},
		{`{"status":"retry","ok_through":1003}`, 0, false, Retry, ""},
		{`{}`, 0, false, Retry, `unknown status ""`},
		{`{"ok_through":1006}`, 0, false, Retry, "ok_through is 1006, and the batch ends at 1005"},
		{`{"status":"ok","ok_through":99999999}`, 0, false, Retry, "ok_through is 99999999"},
		{`{"ok_through":1005,"failed":{"seq":1005,"status":"retry"}}`, 0, false, Retry, "message 1005 has failed, and all up to 1005 is done"},
		{`{"ok_through":1001,"failed":{"seq":1005,"status":"retry"}}`, 0, false, Retry, "message 1005 has failed"},
		{`{"failed":{"seq":1003,"status":"retry"}}`, 0, false, Retry, "message 1003 has failed"},
		{`{"ok_through":1001,"failed":{"seq":1003,"status":"ok"}}`, 0, false, Retry, "with status ok"},
		{`{"ok_through":-1}`, 0, false, Retry, "unbelievable"},
		{`{"ok_through":1003.5}`, 0, false, Retry, "unbelievable"},
		{`{"ok_through":"1003"}`, 0, false, Retry, "unbelievable"},
		{`{"status":"ok"} and more`, 0, false, Retry, "unbelievable"},
		{`<html>It works!</html>`, 0, false, Retry, "It works!"},
		{`null`, 0, false, Retry, "unknown status"},
		{`[]`, 0, false, Retry, "unbelievable"},
		{strings.Repeat("x", maxReply+1), 0, false, Retry, "more than 65536 bytes"},
	} {
		t.Run(cut(c.answer, 60), func(t *testing.T) {
			wantBatch(t, parseBatchReply([]byte(c.answer), ms), c.ok, c.named, c.want, c.reason)
		})
	}
	got := parseBatchReply([]byte(`{"ok_through":1001,"failed":{"seq":1003,"status":"retry","after_ms":1500}}`), ms)
	if got.Result.After != 1500*time.Millisecond {
		t.Errorf("after_ms is lost: %+v", got)
	}
}

func TestBatchesAreBoundedAsJSON(t *testing.T) {
	ms := testBatch(strings.Repeat("\x01", 1000), strings.Repeat("\x01", 1000), "c") // Six bytes each in JSON.
	for limit, want := range map[int]int{0: 1, 10_000: 1, 12_600: 2, math.MaxInt: 3} {
		body, n, err := encodeBatch(ms, limit)
		if err != nil || n != want || strings.Count(string(body), "\n") != n || n > 1 && len(body) > limit {
			t.Errorf("limit %d: %d messages in %d bytes, want %d; %v", limit, n, len(body), want, err)
		}
	}
}
