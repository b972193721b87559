package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// testBatch are messages 1001, 1003, 1005, … of partition 3 with these payloads.
func testBatch(data ...string) (ms []*Message) {
	for i, d := range data {
		ms = append(ms, testMessage(3, uint64(1001+2*i), d))
	}
	return ms
}

// handleBatch calls h with a deadline, as a lane does.
func handleBatch(t *testing.T, h Batcher, ms []*Message) BatchResult {
	t.Helper()
	ctx := &callContext{parent: t.Context(), deadline: time.Now().Add(20 * time.Second)}
	defer ctx.end()
	return h.HandleBatch(ctx, ms)
}

func wantBatch(t *testing.T, got BatchResult, ok int, named bool, want Status, reason string) {
	t.Helper()
	if got.OK != ok || got.Named != named {
		t.Errorf("got %+v, want %d done, named %t", got, ok, named)
	}
	wantStatus(t, got.Result, want, reason)
}

func wantAll(t *testing.T, got BatchResult, n int) {
	t.Helper()
	if got.OK != n {
		t.Errorf("got %+v, want all %d", got, n)
	}
}

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

func TestSubprocessGetsBatchesIfItWantsThem(t *testing.T) {
	s := startSub(t, "plain", func(c *SubprocessConfig, _ *HandlerEnv) { c.Batch = 7 })
	if got := s.BatchSize(3); got != 1 {
		t.Errorf("batches of %d before there is a child", got)
	}
	wantStatus(t, s.handle(t, testMessage(3, 1, "ok")), OK, "")
	if got := s.BatchSize(3); got != 7 {
		t.Errorf("batches of %d, want 7", got)
	}
	wantAll(t, handleBatch(t, s, testBatch("ok", "ok")), 2)
	wantBatch(t, handleBatch(t, s, testBatch("ok", "ok", "retry because", "ok")), 2, true, Retry, "because")
	wantBatch(t, handleBatch(t, s, testBatch("reject because", "ok")), 0, true, Reject, "because")
	wantBatch(t, handleBatch(t, s, testBatch("ok", `answer {"status":"unavailable","reason":"because"}`)), 0, false, Unavailable, "because")
	wantBatch(t, handleBatch(t, s, testBatch("ok", `answer {"status":"ok","ok_through":2000}`)), 0, false, Retry, "unbelievable")
	wantBatch(t, handleBatch(t, s, testBatch("ok", `answer {"status":["ok"]}`)), 0, false, Retry, "unreadable answer")
	wantAll(t, handleBatch(t, s, testBatch("ok", `answer {"status":"ok","attempt":4}`)), 2)

	trace := s.awaitTrace(t, `"batch"`)
	if !strings.Contains(trace, `"max_batch":7,`) {
		t.Errorf("no max_batch in %s", trace)
	}
	_, line, _ := strings.Cut(trace, `{"type":"batch",`)
	if !strings.HasPrefix(line, `"id":"b2","partition":3,"epoch":5,"messages":[{"type":"message","id":"orders/3/1001",`) {
		t.Errorf("batch is %s", cut(line, 200))
	}
}

func TestSubprocessGetsNoBatchesUnasked(t *testing.T) {
	s := startSub(t, "no-batches", nil)
	wantStatus(t, s.handle(t, testMessage(3, 1, "ok")), OK, "")
	if got := s.BatchSize(3); got != 1 {
		t.Errorf("batches of %d", got)
	}
	got := handleBatch(t, s, testBatch("ok", "ok"))
	if got.OK != 0 || got.Result.Err != errNotReady {
		t.Errorf("got %+v", got)
	}
	if strings.Contains(s.awaitTrace(t, "message"), `"batch"`) {
		t.Error("a batch was sent")
	}
}

func TestSubprocessDeathInABatchBlamesNobody(t *testing.T) {
	s := startSub(t, "plain", nil)
	s.handle(t, testMessage(3, 1, "ok"))
	wantBatch(t, handleBatch(t, s, testBatch("ok", "crash and burn")), 0, false, Retry, "exit status 7")
	s.handle(t, testMessage(3, 1, "ok"))
	ms := testBatch("ok", "hang")
	ms[0].Timeout = 200 * time.Millisecond
	wantBatch(t, handleBatch(t, s, ms), 0, false, Timeout, "no answer within 200ms")

	s.handle(t, testMessage(3, 1, "ok"))
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan BatchResult, 1)
	go func() { done <- s.HandleBatch(ctx, testBatch("ok", "hang", "ok")) }()
	s.awaitTrace(t, "orders/3/1005")
	pid := s.pid(t)
	cancel(errors.New("lease lost"))
	wantBatch(t, <-done, 0, false, Unavailable, "lease lost")
	if alive(pid) {
		t.Error("child lives after HandleBatch has returned")
	}
}

// wantRest checks that the first n messages are done and the others are to be called next.
func wantRest(t *testing.T, got BatchResult, n int) {
	t.Helper()
	if got.OK != n || !got.Rest {
		t.Errorf("got %+v, want %d done and the rest next", got, n)
	}
}

// batchWords has a service of http or nats do what the first message of a batch says that is not "ok".
func batchWords(t *testing.T, body []byte) (word, arg string) {
	for _, line := range strings.Split(strings.TrimSpace(string(body)), "\n") {
		var m messageLine
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.Data == nil {
			t.Errorf("no message: %v in %s", err, cut(line, 200))
			return "", ""
		}
		if word, arg, _ = strings.Cut(*m.Data, " "); word != "ok" {
			return word, arg
		}
	}
	return "", ""
}

func TestHTTPPostsBatches(t *testing.T) {
	got := make(chan seen, 16)
	url := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- seen{r, string(body)}
		switch word, arg := batchWords(t, body); word {
		case "answer":
			io.WriteString(w, arg)
		case "status":
			var code int
			fmt.Sscan(arg, &code)
			w.Header().Set("Retry-After", "3")
			http.Error(w, "because", code)
		case "break":
			panic(http.ErrAbortHandler)
		case "torn": // Before the body begins.
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusOK)
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	h := newHTTP(t, url, func(c *HTTPConfig) {
		c.Batch, c.OKStatus, c.Headers = 50, []int{409}, map[string]string{"X-Site": "plant-7", "Content-Type": "application/json"}
		c.SecretFiles = []string{writeFile(t, whsec)}
	})
	if n := h.BatchSize(3); n != 50 {
		t.Errorf("batches of %d", n)
	}
	wantAll(t, handleBatch(t, h, testBatch("ok", "ok", "ok")), 3)
	req := <-got
	wantHeaders(t, req.Header, map[string]string{
		"Content-Type": "application/x-ndjson", "X-Site": "plant-7", "Idempotency-Key": "orders/3/1001-1005", "Webhook-Id": "orders/3/1001-1005",
		"Leasehold-Id": "orders/3/1001-1005", "Leasehold-Topic": "orders", "Leasehold-Group": "billing", "Leasehold-Node": "n1",
		"Leasehold-Partition": "3", "Leasehold-Epoch": "5", "Leasehold-First-Seq": "1001", "Leasehold-Last-Seq": "1005",
		"Leasehold-Messages": "3", "Leasehold-Timeout-Ms": "20000", "Leasehold-Seq": "", "Ce-Id": "",
	})
	if !strings.HasPrefix(req.body, `{"type":"message","id":"orders/3/1001",`) || strings.Count(req.body, "\n") != 3 || req.Header.Get("Webhook-Signature") == "" {
		t.Errorf("body is %s", req.body)
	}
	wantBatch(t, handleBatch(t, h, testBatch("ok", `answer {"ok_through":1001,"failed":{"seq":1003,"status":"reject","reason":"because"}}`)), 1, true, Reject, "because")
	wantBatch(t, handleBatch(t, h, testBatch("ok", `answer thanks`)), 0, false, Retry, "unbelievable")
	wantBatch(t, handleBatch(t, h, testBatch("ok", `status 422`)), 0, false, Reject, "422 Unprocessable Entity: because")
	wantBatch(t, handleBatch(t, h, testBatch("ok", `status 409`)), 0, false, Retry, "409")
	wantBatch(t, handleBatch(t, h, testBatch("ok", `break`)), 0, false, Retry, "broke off")
	wantBatch(t, handleBatch(t, h, testBatch("ok", `torn`)), 0, false, Retry, "broke off")
	down := handleBatch(t, h, testBatch("ok", `status 503`))
	if wantBatch(t, down, 0, false, Unavailable, "503"); down.Result.After != 3*time.Second {
		t.Errorf("got %+v", down)
	}
}

func TestNATSRequestsBatches(t *testing.T) {
	r := newNATSRig(t, NATSConfig{Batch: 50, OKStatus: []int{409}})
	got := make(chan *nats.Msg, 16)
	r.serve(t, func(req *nats.Msg) {
		got <- req
		if req.Header.Get("Leasehold-Seq") != "" {
			word, code, _ := strings.Cut(string(req.Data[:8]), " ")
			if word == "ok" {
				code = ""
			}
			reply(t, req, code, "")
			return
		}
		switch word, arg := batchWords(t, req.Data); word {
		case "answer":
			if err := req.Respond([]byte(arg)); err != nil {
				t.Error(err)
			}
		case "code":
			reply(t, req, arg, "because")
		default:
			reply(t, req, "", "")
		}
	})
	if n := r.BatchSize(3); n != 50 {
		t.Errorf("batches of %d", n)
	}
	wantAll(t, handleBatch(t, r, testBatch("ok", "ok")), 2)
	wantHeaders(t, (<-got).Header, map[string]string{
		"Content-Type": "application/x-ndjson", "Leasehold-Id": "orders/3/1001-1003", "Leasehold-Partition": "3", "Leasehold-Epoch": "5",
		"Leasehold-First-Seq": "1001", "Leasehold-Last-Seq": "1003", "Leasehold-Messages": "2",
	})
	wantBatch(t, handleBatch(t, r, testBatch("ok", `answer {"ok_through":1001,"failed":{"seq":1003,"status":"retry","reason":"because"}}`)), 1, true, Retry, "because")
	wantBatch(t, handleBatch(t, r, testBatch("ok", `answer {"status":"unavailable"}`)), 0, false, Unavailable, "")
	wantBatch(t, handleBatch(t, r, testBatch("ok", `code 400`)), 0, false, Reject, "400 Bad Request: because")
	wantBatch(t, handleBatch(t, r, testBatch("ok", `code 409`)), 0, false, Retry, "409")
	// What is small as bytes may be too large for the broker as JSON.
	control := "ok " + strings.Repeat("\x01", 100<<10)
	wantRest(t, handleBatch(t, r, testBatch(control, control, control)), 1)
	wantRest(t, handleBatch(t, r, testBatch("ok", control, control)), 2)
	wantBatch(t, handleBatch(t, r, testBatch("code 400"+control[2:], control)), 0, true, Reject, "400")
}
