package worker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const whsec = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// newHTTP builds the handler for a URL and runs it.
func newHTTP(t *testing.T, url string, change func(*HTTPConfig)) *HTTP {
	t.Helper()
	cfg := HTTPConfig{URL: url}
	if change != nil {
		change(&cfg)
	}
	h, err := NewHTTP(cfg, HandlerEnv{App: "leasehold/test", Node: "n1", Group: "billing", Topic: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	runHandler(t, h)
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

// handleFor calls h with a deadline, as a lane does.
func handleFor(t *testing.T, h Handler, m *Message, d time.Duration) Result {
	t.Helper()
	ctx := &callContext{parent: t.Context(), deadline: time.Now().Add(d)}
	defer ctx.end()
	return h.Handle(ctx, m)
}

func handle(t *testing.T, h Handler, m *Message) Result {
	t.Helper()
	return handleFor(t, h, m, 20*time.Second)
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
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
	h := newHTTP(t, url, func(c *HTTPConfig) { c.OKStatus = []int{418} })
	for status, codes := range map[Status][]int{
		OK:          {200, 201, 202, 204, 418},
		Retry:       {408, 409, 425, 451, 500, 501, 505, 507, 599},
		Reject:      {400, 413, 414, 415, 422, 431},
		Unavailable: {300, 301, 302, 303, 304, 307, 308, 401, 402, 403, 404, 405, 407, 429, 502, 503, 504},
		Pause:       {410},
	} {
		for _, code := range codes {
			got := handle(t, h, testMessage(0, 1, fmt.Sprint(code)))
			want := Result{Status: status}
			if status != OK {
				want.Reason = strings.TrimSpace(fmt.Sprint(code, " ", http.StatusText(code))) + ": because of this"
			}
			if code/100 == 3 {
				want.Reason = got.Reason
				wantStatus(t, got, Unavailable, "/elsewhere")
			}
			if got != want {
				t.Errorf("%d: got %+v, want %+v", code, got, want)
			}
		}
	}
}

func TestHTTPObeysRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, c := range []struct {
		value, date string
		want        time.Duration
	}{
		{"7", "", 7 * time.Second}, {" 0.25 ", "", 250 * time.Millisecond}, {"0", "", 0}, {"-3", "", 0}, {"", "", 0}, {"soon", "", 0},
		{"1e300", "", maxAfter}, {"NaN", "", 0}, {"Inf", "", maxAfter},
		{at(9 * time.Second), "", 9 * time.Second}, {at(-time.Second), "", 0}, {at(1000 * time.Hour), "", maxAfter},
		{at(time.Hour), at(time.Hour - time.Minute), time.Minute}, // The service's clock is an hour fast.
	} {
		if got := retryAfter(c.value, c.date, now); got != c.want {
			t.Errorf("%q, sent at %q: got %s, want %s", c.value, c.date, got, c.want)
		}
	}
	for code, want := range map[int]time.Duration{503: 3 * time.Second, 429: 3 * time.Second, 500: 3 * time.Second, 400: 0} {
		h := newHTTP(t, serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(code)
		}), nil)
		if got := handle(t, h, testMessage(0, 1, "x")); got.After != want {
			t.Errorf("%d: got %+v, want after %s", code, got, want)
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
	encrypted.Config.ErrorLog = testLog(t)
	t.Cleanup(encrypted.Close)
	for url, reason := range map[string]string{
		"http://" + refused:              "connection refused",
		encrypted.URL:                    "certificate signed by unknown authority",
		"http://no-such-host.invalid/":   "no-such-host.invalid",
		"https://" + plainService(t, ""): "no connection: EOF",
		"http://" + strings.TrimPrefix(encrypted.URL, "https://"): "wants https://", // Answered by a 400, which is no fault of the message.
	} {
		wantStatus(t, handle(t, newHTTP(t, url, nil), testMessage(0, 1, "x")), Unavailable, reason)
	}
}

func TestHTTPToWhatDoesNotSpeakItIsUnavailable(t *testing.T) {
	h := newHTTP(t, "http://"+plainService(t, "SSH-2.0-OpenSSH_9.6\r\n"), nil)
	wantStatus(t, handle(t, h, testMessage(0, 1, "x")), Unavailable, "malformed HTTP")
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
		wantStatus(t, handle(t, h, testMessage(0, 1, data)), OK, "")
		wantStatus(t, handle(t, h, testMessage(0, 2, data)), Retry, "connection broke off")
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
		r := handle(t, h, testMessage(0, uint64(i+1), "x"))
		if wantStatus(t, r, Retry, "500"); len(r.Reason) > maxReason {
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
	wantStatus(t, handle(t, h, testMessage(0, 1, "x")), OK, "")
}

func TestHTTPCallEndsWithItsTimeOrItsLease(t *testing.T) {
	came, gone := make(chan struct{}), make(chan struct{})
	h := newHTTP(t, serveHTTP(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // Only then the server looks at the connection.
		came <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
	}), nil)
	call := func(ctx context.Context, end func()) Result {
		done := make(chan Result, 1)
		go func() { done <- h.Handle(ctx, testMessage(0, 1, "x")) }()
		<-came
		end()
		<-gone // The service notices, too.
		return <-done
	}
	timed := expiring{context.Background(), make(chan struct{})}
	wantStatus(t, call(timed, func() { close(timed.over) }), Timeout, "deadline")
	ctx, cancel := context.WithCancelCause(t.Context())
	wantStatus(t, call(ctx, func() { cancel(errors.New("lease lost")) }), Unavailable, "lease lost")
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
	done := make(chan Result, 1)
	go func() { done <- h.Handle(ctx, testMessage(0, 1, strings.Repeat("x", 64<<20))) }()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 64<<10)); err != nil { // Then nothing more, so that sending gets stuck.
		t.Fatal(err)
	}
	cancel(errors.New("lease lost"))
	wantStatus(t, <-done, Unavailable, "lease lost")
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
	wantStatus(t, handleFor(t, h, testMessage(0, 1, "x"), 50*time.Millisecond), Unavailable, "no connection")
}

func TestHTTPCarriesTheEnvelope(t *testing.T) {
	url, requests := recordHTTP(t)
	h := newHTTP(t, url+"/in?x=1", func(c *HTTPConfig) {
		c.Headers = map[string]string{"X-Site": "plant-7"}
		c.BearerFile = writeFile(t, "s3cret\n")
	})
	m := testMessage(3, 1007, "\x00raw\xff")
	m.Key, m.Traceparent = "c 17%", "00-ab"
	m.Headers = map[string][]string{
		"Nats-Msg-Id": {"k"}, "traceparent": {"00-ab"}, "My Header": {"a\x01", "b"}, "Leasehold-Epoch": {"99"}, "Connection": {"close"},
	}
	wantStatus(t, handle(t, h, m), OK, "")
	got := <-requests
	if got.Method != "POST" || got.URL.String() != "/in?x=1" || got.body != "\x00raw\xff" || got.ContentLength != 5 {
		t.Errorf("%s %s with %q", got.Method, got.URL, got.body)
	}
	wantHeaders(t, got.Header, map[string]string{
		"Content-Type": "application/octet-stream", "X-Site": "plant-7", "Authorization": "Bearer s3cret", "User-Agent": "leasehold/test",
		"Idempotency-Key": "k", "Traceparent": "00-ab",
		"Ce-Specversion": "1.0", "Ce-Id": "orders/3/1007", "Ce-Source": "/leasehold/topics/orders", "Ce-Type": "leasehold.message",
		"Ce-Time": "2023-11-14T22:13:20.000000005Z", "Ce-Partitionkey": "c%2017%25", "Ce-Sequence": "00000000000000001007",
		"Leasehold-Id": "orders/3/1007", "Leasehold-Topic": "orders", "Leasehold-Group": "billing", "Leasehold-Node": "n1",
		"Leasehold-Partition": "3", "Leasehold-Seq": "1007", "Leasehold-Key": "c 17%", "Leasehold-Epoch": "5", "Leasehold-Attempt": "1",
		"Leasehold-Max-Attempts": "8", "Leasehold-Timeout-Ms": "20000", "Leasehold-Subject": "orders.c-17",
		"Leasehold-Header-Nats-Msg-Id": "k", "Leasehold-Header-My%20header": "a%01,b", "Leasehold-Header-Leasehold-Epoch": "99",
		"Leasehold-Header-Connection": "close", "Connection": "", "Webhook-Id": "",
	})
}

func wantHeaders(t *testing.T, got map[string][]string, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if is := strings.Join(got[name], ","); is != value {
			t.Errorf("%s is %q, want %q", name, is, value)
		}
	}
}

func TestHTTPPassesEventsOnAsTheyAre(t *testing.T) {
	url, requests := recordHTTP(t)
	h := newHTTP(t, url, func(c *HTTPConfig) { c.Headers = map[string]string{"Content-Type": "application/json"} })
	m := testMessage(3, 1007, "{}")
	wantStatus(t, handle(t, h, m), OK, "")
	wantHeaders(t, (<-requests).Header, map[string]string{"Content-Type": "application/json"})

	m.Headers = map[string][]string{
		"ce-id": {"A-1"}, "CE-Source": {"/press/4"}, "ce-type": {"weighed"}, "Ce-Specversion": {"1.0"}, "ce-unit": {"kg"}, "content-type": {"text/csv"},
	}
	wantStatus(t, handle(t, h, m), OK, "")
	wantHeaders(t, (<-requests).Header, map[string]string{
		"Content-Type": "text/csv", "Ce-Id": "A-1", "Ce-Source": "/press/4", "Ce-Type": "weighed", "Ce-Unit": "kg", "Ce-Sequence": "00000000000000001007",
		"Leasehold-Id": "orders/3/1007", "Leasehold-Header-Ce-Id": "",
	})

	m.Headers = map[string][]string{"Content-Type": {"application/cloudevents+json"}}
	wantStatus(t, handle(t, h, m), OK, "")
	wantHeaders(t, (<-requests).Header, map[string]string{"Content-Type": "application/cloudevents+json", "Ce-Id": "", "Leasehold-Seq": "1007"})
}

// TestHTTPEnvelopeCannotBeForged: attributes that are no whole event do not replace ours, and of a header given twice one counts.
func TestHTTPEnvelopeCannotBeForged(t *testing.T) {
	url, requests := recordHTTP(t)
	h := newHTTP(t, url, nil)
	ours := map[string]string{"Ce-Id": "orders/3/1007", "Ce-Source": "/leasehold/topics/orders", "Ce-Type": "leasehold.message", "Ce-Partitionkey": "c-17"}
	for name, c := range map[string]struct {
		headers map[string][]string
		want    map[string]string
	}{
		"some attributes": {
			map[string][]string{"ce-id": {"victim"}, "CE-SOURCE": {"/shop"}, "ce-partitionkey": {"c-99"}, "ce-specversion": {""}, "ce-type": nil},
			map[string]string{"Leasehold-Header-Ce-Id": "victim", "Leasehold-Header-Ce-Source": "/shop", "Leasehold-Header-Ce-Partitionkey": "c-99"},
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
		m := testMessage(3, 1007, "x")
		m.Headers = c.headers
		wantStatus(t, handle(t, h, m), OK, "")
		got := (<-requests).Header
		t.Log(name)
		wantHeaders(t, got, ours)
		wantHeaders(t, got, c.want)
	}
	m := testMessage(3, 1007, "x")
	m.Headers = map[string][]string{"ce-id": {"1"}, "CE-ID": {"2"}, "ce-source": {"/s"}, "ce-type": {"t"}, "ce-specversion": {"1.0"}}
	wantStatus(t, handle(t, h, m), OK, "")
	wantHeaders(t, (<-requests).Header, map[string]string{"Ce-Id": "2", "Leasehold-Header-Ce-Id": "1", "Ce-Source": "/s", "Leasehold-Id": "orders/3/1007"})
}

func TestHTTPSignsWithEverySecret(t *testing.T) {
	url, requests := recordHTTP(t)
	h := newHTTP(t, url, func(c *HTTPConfig) { c.SecretFiles = []string{writeFile(t, whsec), writeFile(t, whsec)} })
	wantStatus(t, handle(t, h, testMessage(3, 1007, "body")), OK, "")
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
	wantHeaders(t, got, map[string]string{
		"Webhook-Id": "orders/3/1007", "Webhook-Signature": want.Get("Webhook-Signature"),
	})
}

func TestHTTPTrustsOnlyItsCAAndShowsItsCertificate(t *testing.T) {
	var names atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { names.Store(int32(len(r.TLS.PeerCertificates))) }))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.Config.ErrorLog = testLog(t)
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := writeFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	key, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := writeFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))

	h := newHTTP(t, s.URL, func(c *HTTPConfig) { c.CAFile, c.CertFile, c.KeyFile = ca, ca, keyFile })
	wantStatus(t, handle(t, h, testMessage(0, 1, "x")), OK, "")
	if names.Load() != 1 {
		t.Error("no certificate was shown")
	}
	bare := newHTTP(t, s.URL, func(c *HTTPConfig) { c.CAFile = ca })
	wantStatus(t, handle(t, bare, testMessage(0, 1, "x")), Unavailable, "certificate required")
}

func TestHTTPNamesTheKeyOfABadFile(t *testing.T) {
	bad := writeFile(t, "hunter 2")
	_, err := NewHTTP(HTTPConfig{
		URL: "https://x", SecretFiles: []string{"/no/such", bad}, BearerFile: bad, CAFile: bad, CertFile: bad, KeyFile: bad,
	}, HandlerEnv{})
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

// testLog has the server's complaints about clients in the test's log.
func testLog(t *testing.T) *log.Logger { return log.New(t.Output(), "", 0) }
