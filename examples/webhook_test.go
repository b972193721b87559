package examples

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"leasehold/internal/conformance"
	"leasehold/internal/freeport"
	"leasehold/worker/handler"
	"leasehold/worker/handler/webhook"
)

// receiver is a running webhook.py.
type receiver struct {
	url, db    string
	secret     []byte
	secretFile string
}

func startWebhook(t *testing.T) *receiver {
	t.Helper()
	dir := t.TempDir()
	w := &receiver{db: filepath.Join(dir, "db"), secret: []byte("24 bytes of a test's own")}
	w.secretFile = filepath.Join(dir, "secret")
	secret := "whsec_" + base64.StdEncoding.EncodeToString(w.secret) + "\n"
	if err := os.WriteFile(w.secretFile, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	w.url = "http://127.0.0.1:" + port
	start(t, exec.Command(need(t, "python3"), "webhook.py", port, w.secretFile, w.db))
	soon(t, func() error {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	return w
}

// freePort finds a port of 127.0.0.1 that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := freeport.Row(1)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// call is a request and what is wrong with it, if anything.
type call struct {
	partition, seq, epoch int
	secrets               [][]byte  // That sign it, one after the other.
	signed                time.Time // Zero: now.
	forged                bool      // The body is another one than was signed.
}

// post sends a call as Leasehold does, and returns status and body of the answer.
func (w *receiver) post(t *testing.T, c call) (int, string) {
	t.Helper()
	if c.signed.IsZero() {
		c.signed = time.Now()
	}
	id, stamp := fmt.Sprintf("orders/%d/%d", c.partition, c.seq), strconv.FormatInt(c.signed.Unix(), 10)
	body := []byte("a payload\x00\xff")
	var signatures []byte
	for _, secret := range c.secrets {
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
		signatures = fmt.Appendf(signatures, "v1,%s ", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	if c.forged {
		body = []byte("another payload")
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"webhook-id": id, "webhook-timestamp": stamp, "webhook-signature": string(bytes.TrimSpace(signatures)),
		"ce-id": id, "Content-Type": "application/octet-stream", "Leasehold-Group": "billing",
		"Leasehold-Partition": strconv.Itoa(c.partition), "Leasehold-Seq": strconv.Itoa(c.seq),
		"Leasehold-Epoch": strconv.Itoa(c.epoch),
	} {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestWebhookKeepsOnceRefusesOlderOwnersAndForgeries(t *testing.T) {
	w := startWebhook(t)
	good, other := [][]byte{w.secret}, []byte("another secret")
	for _, c := range []struct {
		name string
		call call
		want int
	}{
		{"first", call{partition: 1, seq: 7, epoch: 4, secrets: good}, 200},
		{"repeat", call{partition: 1, seq: 7, epoch: 4, secrets: good}, 200},
		{"other partition", call{partition: 2, seq: 3, epoch: 1, secrets: good}, 200},
		{"new owner repeats", call{partition: 1, seq: 7, epoch: 5, secrets: good}, 200},
		{"late call of the old owner", call{partition: 1, seq: 8, epoch: 4, secrets: good}, 503},
		{"new owner goes on", call{partition: 1, seq: 8, epoch: 5, secrets: good}, 200},
		{"two signatures, for a new secret", call{partition: 1, seq: 9, epoch: 5, secrets: [][]byte{other, w.secret}}, 200},
		{"wrong secret", call{partition: 1, seq: 10, epoch: 5, secrets: [][]byte{other}}, 401},
		{"no signature", call{partition: 1, seq: 10, epoch: 5}, 401},
		{"other body", call{partition: 1, seq: 10, epoch: 5, secrets: good, forged: true}, 401},
		{"old", call{partition: 1, seq: 10, epoch: 5, secrets: good, signed: time.Now().Add(-time.Hour)}, 401},
	} {
		if got, text := w.post(t, c.call); got != c.want {
			t.Errorf("%s: status %d (%s), want %d", c.name, got, text, c.want)
		}
	}
	const want = `[('orders/1/7',), ('orders/2/3',), ('orders/1/8',), ('orders/1/9',)]`
	if got := sqlite(t, w.db, "SELECT id FROM bodies ORDER BY rowid"); got != want {
		t.Errorf("kept %s, want %s", got, want)
	}
}

// TestWebhookServesTheHandlerKind has Leasehold's own side of the contract call it.
func TestWebhookServesTheHandlerKind(t *testing.T) {
	w := startWebhook(t)
	env := handler.Env{App: "leasehold/test", Node: "n1", Group: "conformance", Topic: "orders"}
	h, err := webhook.New(webhook.Config{URL: w.url, SecretFiles: []string{w.secretFile}}, env)
	if err != nil {
		t.Fatal(err)
	}
	r, err := conformance.Calls(t.Context(), h, conformance.Options{
		Env: env, Timeout: hang, MaxPayload: 1 << 20, Key: "c-17", Payloads: [][]byte{[]byte("a payload")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Checks {
		if c.Verdict != conformance.Right && c.Name != "time" { // That is the machine's affair.
			t.Errorf("%+v", c)
		}
	}
}
