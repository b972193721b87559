package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/header"
	"leasehold/worker/workertest"
)

const whsec = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// newHTTP builds the handler for a URL and runs it.
func newHTTP(t *testing.T, url string, change func(*Config)) *Handler {
	t.Helper()
	cfg := Config{URL: url}
	if change != nil {
		change(&cfg)
	}
	h, err := New(cfg, handler.Env{App: "leasehold/test", Node: "n1", Group: "billing", Topic: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	workertest.RunHandler(t, h)
	return h
}

// serveHTTP runs a service that answers with f.
func serveHTTP(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL
}

// seen is a request as a service has got it.
type seen struct {
	*http.Request
	body string
}

// recordHTTP runs a service that answers 204 and passes on what it got.
func recordHTTP(t *testing.T) (url string, requests <-chan seen) {
	t.Helper()
	got := make(chan seen, 16)
	return serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- seen{r, string(body)}
		w.WriteHeader(http.StatusNoContent)
	}), got
}

func TestHTTPStatusesMapToResults(t *testing.T) {
	url := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		var code int
		fmt.Fscan(r.Body, &code)
		if code/100 == 3 {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(code)
		if code != http.StatusNoContent && code != http.StatusNotModified {
			fmt.Fprint(w, "because\nof this")
		}
	})
	h := newHTTP(t, url, func(c *Config) { c.OKStatus = []int{418} })
	for status, codes := range map[handler.Status][]int{
		handler.OK:          {200, 201, 202, 204, 418},
		handler.Retry:       {408, 409, 425, 451, 500, 501, 505, 507, 599},
		handler.Reject:      {400, 413, 414, 415, 422, 431},
		handler.Unavailable: {300, 301, 302, 303, 304, 307, 308, 401, 402, 403, 404, 405, 407, 429, 502, 503, 504},
		handler.Pause:       {410},
	} {
		for _, code := range codes {
			got := workertest.Handle(t, h, workertest.Message(0, 1, fmt.Sprint(code)))
			want := handler.Result{Status: status}
			if status != handler.OK {
				want.Reason = strings.TrimSpace(fmt.Sprint(code, " ", http.StatusText(code))) + ": because of this"
			}
			if code/100 == 3 {
				want.Reason = got.Reason
				workertest.WantStatus(t, got, handler.Unavailable, "/elsewhere")
			}
			if got != want {
				t.Errorf("%d: got %+v, want %+v", code, got, want)
			}
		}
	}
}

func TestHTTPWithoutAConnectionIsUnavailable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	encrypted := httptest.NewTLSServer(http.NotFoundHandler())
	encrypted.Config.ErrorLog = workertest.Log(t)
	t.Cleanup(encrypted.Close)
	for url, reason := range map[string]string{
		"http://" + refused:              "connection refused",
		encrypted.URL:                    "certificate signed by unknown authority",
		"http://no-such-host.invalid/":   "no-such-host.invalid",
		"https://" + plainService(t, ""): "no connection: EOF",
		// Answered by a 400, which is no fault of the message.
		"http://" + strings.TrimPrefix(encrypted.URL, "https://"): "wants https://",
	} {
		workertest.WantStatus(t, workertest.Handle(t, newHTTP(t, url, nil), workertest.Message(0, 1, "x")),
			handler.Unavailable, reason)
	}
}

func TestHTTPToWhatDoesNotSpeakItIsUnavailable(t *testing.T) {
	h := newHTTP(t, "http://"+plainService(t, "SSH-2.0-OpenSSH_9.6\r\n"), nil)
	workertest.WantStatus(t, workertest.Handle(t, h, workertest.Message(0, 1, "x")), handler.Unavailable, "malformed HTTP")
}

// plainService listens, reads something, answers with text, and closes the connection.
func plainService(t *testing.T, text string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 1<<16))
			io.WriteString(c, text)
			c.Close()
		}
	}()
	return l.Addr().String()
}

func TestHTTPConnectionThatBreaksOffCountsAndIsNotRepeated(t *testing.T) {
	for _, data := range []string{"", "x"} {
		var calls atomic.Int32
		url := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
			if calls.Add(1) > 1 {
				panic(http.ErrAbortHandler) // The connection is a kept one by now.
			}
		})
		h := newHTTP(t, url, nil)
		workertest.WantStatus(t, workertest.Handle(t, h, workertest.Message(0, 1, data)), handler.OK, "")
		workertest.WantStatus(t, workertest.Handle(t, h, workertest.Message(0, 2, data)), handler.Retry,
			"connection broke off")
		if n := calls.Load(); n != 2 {
			t.Errorf("payload %q: the service got %d requests, want 2", data, n)
		}
	}
}

func TestHTTPKeepsConnections(t *testing.T) {
	var opened atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, strings.Repeat("x", 10<<10))
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	h := newHTTP(t, s.URL, nil)
	for i := range 20 {
		r := workertest.Handle(t, h, workertest.Message(0, uint64(i+1), "x"))
		if workertest.WantStatus(t, r, handler.Retry, "500"); len(r.Reason) > header.MaxReason {
			t.Fatalf("reason of %d bytes", len(r.Reason))
		}
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections for 20 calls one after the other", n)
	}
}

func TestHTTPAnswersAreBounded(t *testing.T) {
	h := newHTTP(t, serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil { // Without an end.
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	}), nil)
	workertest.WantStatus(t, workertest.Handle(t, h, workertest.Message(0, 1, "x")), handler.OK, "")
}

func TestHTTPCallEndsWithItsTimeOrItsLease(t *testing.T) {
	came, gone := make(chan struct{}), make(chan struct{})
	h := newHTTP(t, serveHTTP(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // Only then the server looks at the connection.
		came <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
	}), nil)
	call := func(ctx context.Context, end func()) handler.Result {
		done := make(chan handler.Result, 1)
		go func() { done <- h.Handle(ctx, workertest.Message(0, 1, "x")) }()
		<-came
		end()
		<-gone // The service notices, too.
		return <-done
	}
	timed := workertest.NewExpiring(context.Background())
	workertest.WantStatus(t, call(timed, func() { close(timed.Over) }), handler.Timeout, "deadline")
	ctx, cancel := context.WithCancelCause(t.Context())
	workertest.WantStatus(t, call(ctx, func() { cancel(errors.New("lease lost")) }), handler.Unavailable, "lease lost")
}

// A service that does not read must not hold a partition whose lease is lost.
func TestHTTPCallEndsWhileItsBodyIsBeingSent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	h := newHTTP(t, "http://"+l.Addr().String(), nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan handler.Result, 1)
	go func() { done <- h.Handle(ctx, workertest.Message(0, 1, strings.Repeat("x", 64<<20))) }()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 64<<10)); err != nil { // Then nothing more, so that sending gets stuck.
		t.Fatal(err)
	}
	cancel(errors.New("lease lost"))
	workertest.WantStatus(t, <-done, handler.Unavailable, "lease lost")
	// The connection is closed: the message has not arrived as a whole, and never will.
	if n, _ := io.Copy(io.Discard, c); n >= 63<<20 {
		t.Errorf("the service could read %d bytes", n)
	}
}

// A host that is switched off does not answer at all, and the message is not to blame.
func TestHTTPTimeThatRunsOutWithoutAConnectionDoesNotCount(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // Accepts in the kernel; the TLS handshake is never answered.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	h := newHTTP(t, "https://"+l.Addr().String(), nil)
	workertest.WantStatus(t, workertest.HandleFor(t, h, workertest.Message(0, 1, "x"), 50*time.Millisecond),
		handler.Unavailable, "no connection")
}

func TestHTTPCarriesTheEnvelope(t *testing.T) {
	url, requests := recordHTTP(t)
	h := newHTTP(t, url+"/in?x=1", func(c *Config) {
		c.Headers = map[string]string{"X-Site": "plant-7"}
		c.BearerFile = workertest.WriteFile(t, "s3cret\n")
	})
	m := workertest.Message(3, 1007, "\x00raw\xff")
	m.Key, m.Traceparent = "c 17%", "00-ab"
	m.Headers = map[string][]string{
		"Nats-Msg-Id": {"k"}, "traceparent": {"00-ab"}, "My Header": {"a\x01", "b"}, "Leasehold-Epoch": {"99"},
		"Connection": {"close"},
	}
	workertest.WantStatus(t, workertest.Handle(t, h, m), handler.OK, "")
	got := <-requests
	if got.Method != "POST" || got.URL.String() != "/in?x=1" || got.body != "\x00raw\xff" || got.ContentLength != 5 {
		t.Errorf("%s %s with %q", got.Method, got.URL, got.body)
	}
	workertest.WantHeaders(t, got.Header, map[string]string{
		"Content-Type": "application/octet-stream", "X-Site": "plant-7", "Authorization": "Bearer s3cret",
		"User-Agent":      "leasehold/test",
		"Idempotency-Key": "k", "Traceparent": "00-ab",
		"Ce-Specversion": "1.0", "Ce-Id": "orders/3/1007", "Ce-Source": "/leasehold/topics/orders",
		"Ce-Type": "leasehold.message",
		"Ce-Time": "2023-11-14T22:13:20.000000005Z", "Ce-Partitionkey": "c%2017%25", "Ce-Sequence": "00000000000000001007",
		"Leasehold-Id": "orders/3/1007", "Leasehold-Topic": "orders", "Leasehold-Group": "billing", "Leasehold-Node": "n1",
		"Leasehold-Partition": "3", "Leasehold-Seq": "1007", "Leasehold-Key": "c 17%", "Leasehold-Epoch": "5",
		"Leasehold-Attempt":      "1",
		"Leasehold-Max-Attempts": "8", "Leasehold-Timeout-Ms": "20000", "Leasehold-Subject": "orders.c-17",
		"Leasehold-Header-Nats-Msg-Id": "k", "Leasehold-Header-My%20header": "a%01,b",
		"Leasehold-Header-Leasehold-Epoch": "99",
		"Leasehold-Header-Connection":      "close", "Connection": "", "Webhook-Id": "",
	})
}

func TestHTTPPassesEventsOnAsTheyAre(t *testing.T) {
	url, requests := recordHTTP(t)
	h := newHTTP(t, url, func(c *Config) { c.Headers = map[string]string{"Content-Type": "application/json"} })
	m := workertest.Message(3, 1007, "{}")
	workertest.WantStatus(t, workertest.Handle(t, h, m), handler.OK, "")
	workertest.WantHeaders(t, (<-requests).Header, map[string]string{"Content-Type": "application/json"})

	m.Headers = map[string][]string{
		"ce-id": {"A-1"}, "CE-Source": {"/press/4"}, "ce-type": {"weighed"}, "Ce-Specversion": {"1.0"}, "ce-unit": {"kg"},
		"content-type": {"text/csv"},
	}
	workertest.WantStatus(t, workertest.Handle(t, h, m), handler.OK, "")
	workertest.WantHeaders(t, (<-requests).Header, map[string]string{
		"Content-Type": "text/csv", "Ce-Id": "A-1", "Ce-Source": "/press/4", "Ce-Type": "weighed", "Ce-Unit": "kg",
		"Ce-Sequence":  "00000000000000001007",
		"Leasehold-Id": "orders/3/1007", "Leasehold-Header-Ce-Id": "",
	})

	m.Headers = map[string][]string{"Content-Type": {"application/cloudevents+json"}}
	workertest.WantStatus(t, workertest.Handle(t, h, m), handler.OK, "")
	workertest.WantHeaders(t, (<-requests).Header, map[string]string{"Content-Type": "application/cloudevents+json",
		"Ce-Id": "", "Leasehold-Seq": "1007"})
}

// TestHTTPEnvelopeCannotBeForged: attributes that are no whole event do not replace ours, and of a header given twice
// one counts.
func TestHTTPEnvelopeCannotBeForged(t *testing.T) {
	url, requests := recordHTTP(t)
	h := newHTTP(t, url, nil)
	ours := map[string]string{"Ce-Id": "orders/3/1007", "Ce-Source": "/leasehold/topics/orders",
		"Ce-Type": "leasehold.message", "Ce-Partitionkey": "c-17"}
	for name, c := range map[string]struct {
		headers map[string][]string
		want    map[string]string
	}{
		"some attributes": {
			map[string][]string{"ce-id": {"victim"}, "CE-SOURCE": {"/shop"}, "ce-partitionkey": {"c-99"}, "ce-specversion": {""},
				"ce-type": nil},
			map[string]string{"Leasehold-Header-Ce-Id": "victim", "Leasehold-Header-Ce-Source": "/shop",
				"Leasehold-Header-Ce-Partitionkey": "c-99"},
		},
		"type twice in two spellings": {
			map[string][]string{"content-type": {"text/html"}, "Content-Type": {"text/csv"}},
			map[string]string{"Content-Type": "text/csv", "Leasehold-Header-Content-Type": "text/html"},
		},
		"type twice, one of an event": {
			map[string][]string{"Content-Type": {"text/csv", "application/cloudevents+json"}},
			map[string]string{"Content-Type": "text/csv", "Leasehold-Header-Content-Type": "application/cloudevents+json"},
		},
		"trace twice": {
			map[string][]string{"traceparent": {"00-1", "00-2"}, "tracestate": {"a=1", "b=2"}},
			map[string]string{"Traceparent": "00-1", "Leasehold-Header-Traceparent": "00-2", "Tracestate": "a=1,b=2"},
		},
	} {
		m := workertest.Message(3, 1007, "x")
		m.Headers = c.headers
		workertest.WantStatus(t, workertest.Handle(t, h, m), handler.OK, "")
		got := (<-requests).Header
		t.Log(name)
		workertest.WantHeaders(t, got, ours)
		workertest.WantHeaders(t, got, c.want)
	}
	m := workertest.Message(3, 1007, "x")
	m.Headers = map[string][]string{"ce-id": {"1"}, "CE-ID": {"2"}, "ce-source": {"/s"}, "ce-type": {"t"},
		"ce-specversion": {"1.0"}}
	workertest.WantStatus(t, workertest.Handle(t, h, m), handler.OK, "")
	workertest.WantHeaders(t, (<-requests).Header, map[string]string{"Ce-Id": "2", "Leasehold-Header-Ce-Id": "1",
		"Ce-Source": "/s", "Leasehold-Id": "orders/3/1007"})
}

func TestHTTPSignsWithEverySecret(t *testing.T) {
	url, requests := recordHTTP(t)
	h := newHTTP(t, url, func(c *Config) {
		c.SecretFiles = []string{workertest.WriteFile(t, whsec), workertest.WriteFile(t, whsec)}
	})
	workertest.WantStatus(t, workertest.Handle(t, h, workertest.Message(3, 1007, "body")), handler.OK, "")
	got := (<-requests).Header
	key, err := parseSecret(whsec)
	if err != nil {
		t.Fatal(err)
	}
	seconds, err := strconv.ParseInt(got.Get("Webhook-Timestamp"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	want := http.Header{}
	signer{[][]byte{key, key}}.sign(want, "orders/3/1007", time.Unix(seconds, 0), []byte("body"))
	workertest.WantHeaders(t, got, map[string]string{
		"Webhook-Id": "orders/3/1007", "Webhook-Signature": want.Get("Webhook-Signature"),
	})
}

func TestHTTPTrustsOnlyItsCAAndShowsItsCertificate(t *testing.T) {
	var names atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		names.Store(int32(len(r.TLS.PeerCertificates)))
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.Config.ErrorLog = workertest.Log(t)
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := workertest.WriteFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	key, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := workertest.WriteFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))

	h := newHTTP(t, s.URL, func(c *Config) { c.CAFile, c.CertFile, c.KeyFile = ca, ca, keyFile })
	workertest.WantStatus(t, workertest.Handle(t, h, workertest.Message(0, 1, "x")), handler.OK, "")
	if names.Load() != 1 {
		t.Error("no certificate was shown")
	}
	bare := newHTTP(t, s.URL, func(c *Config) { c.CAFile = ca })
	workertest.WantStatus(t, workertest.Handle(t, bare, workertest.Message(0, 1, "x")), handler.Unavailable,
		"certificate required")
}

func TestHTTPNamesTheKeyOfABadFile(t *testing.T) {
	bad := workertest.WriteFile(t, "hunter 2")
	_, err := New(Config{
		URL: "https://x", SecretFiles: []string{"/no/such", bad}, BearerFile: bad, CAFile: bad, CertFile: bad, KeyFile: bad,
	}, handler.Env{})
	if err == nil || strings.Contains(err.Error(), "hunter") {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		"handler.secret_files: open /no/such", "handler.secret_files: " + bad + " must hold one secret",
		"handler.bearer_file: " + bad, "handler.ca_file: " + bad, "handler.cert_file: with handler.key_file " + bad,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no fault %q in:\n%v", want, err)
		}
	}
}

func TestHTTPPostsBatches(t *testing.T) {
	got := make(chan seen, 16)
	url := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- seen{r, string(body)}
		switch word, arg := workertest.BatchWords(t, body); word {
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
	h := newHTTP(t, url, func(c *Config) {
		c.Batch, c.OKStatus, c.Headers = 50, []int{409}, map[string]string{"X-Site": "plant-7",
			"Content-Type": "application/json"}
		c.SecretFiles = []string{workertest.WriteFile(t, whsec)}
	})
	if n := h.BatchSize(3); n != 50 {
		t.Errorf("batches of %d", n)
	}
	workertest.WantAll(t, workertest.HandleBatch(t, h, workertest.Batch("ok", "ok", "ok")), 3)
	req := <-got
	workertest.WantHeaders(t, req.Header, map[string]string{
		"Content-Type": "application/x-ndjson", "X-Site": "plant-7", "Idempotency-Key": "orders/3/1001-1005",
		"Webhook-Id":   "orders/3/1001-1005",
		"Leasehold-Id": "orders/3/1001-1005", "Leasehold-Topic": "orders", "Leasehold-Group": "billing",
		"Leasehold-Node":      "n1",
		"Leasehold-Partition": "3", "Leasehold-Epoch": "5", "Leasehold-First-Seq": "1001", "Leasehold-Last-Seq": "1005",
		"Leasehold-Messages": "3", "Leasehold-Timeout-Ms": "20000", "Leasehold-Seq": "", "Ce-Id": "",
	})
	if !strings.HasPrefix(req.body, `{"type":"message","id":"orders/3/1001",`) || strings.Count(req.body, "\n") != 3 ||
		req.Header.Get("Webhook-Signature") == "" {
		t.Errorf("body is %s", req.body)
	}
	workertest.WantBatch(t, workertest.HandleBatch(t, h, workertest.Batch("ok",
		`answer {"ok_through":1001,"failed":{"seq":1003,"status":"reject","reason":"because"}}`)), 1, true, handler.Reject,
		"because")
	workertest.WantBatch(t, workertest.HandleBatch(t, h, workertest.Batch("ok", `answer thanks`)), 0, false, handler.Retry,
		"unbelievable")
	workertest.WantBatch(t, workertest.HandleBatch(t, h, workertest.Batch("ok", `status 422`)), 0, false, handler.Reject,
		"422 Unprocessable Entity: because")
	workertest.WantBatch(t, workertest.HandleBatch(t, h, workertest.Batch("ok", `status 409`)), 0, false, handler.Retry,
		"409")
	workertest.WantBatch(t, workertest.HandleBatch(t, h, workertest.Batch("ok", `break`)), 0, false, handler.Retry,
		"broke off")
	workertest.WantBatch(t, workertest.HandleBatch(t, h, workertest.Batch("ok", `torn`)), 0, false, handler.Retry,
		"broke off")
	down := workertest.HandleBatch(t, h, workertest.Batch("ok", `status 503`))
	if workertest.WantBatch(t, down, 0, false, handler.Unavailable, "503"); down.Result.After != 3*time.Second {
		t.Errorf("got %+v", down)
	}
}

func TestHTTPObeysRetryAfter(t *testing.T) {
	for code, want := range map[int]time.Duration{503: 3 * time.Second, 429: 3 * time.Second, 500: 3 * time.Second,
		400: 0} {
		h := newHTTP(t, serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(code)
		}), nil)
		if got := workertest.Handle(t, h, workertest.Message(0, 1, "x")); got.After != want {
			t.Errorf("%d: got %+v, want after %s", code, got, want)
		}
	}
}
