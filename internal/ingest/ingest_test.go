package ingest_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"leasehold/internal/api"
	"leasehold/internal/node/nodetest"
	"leasehold/partitioner/publisher"
)

// TestMain runs more tests side by side than there are processors: they start nodes and wait for them.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "4")
	os.Exit(m.Run())
}

// one is a node with a file handler.
type one struct{ *nodetest.One }

func newOne(t *testing.T, topic string) *one { return &one{nodetest.NewOne(t, topic)} }

// viaSocket is a client of the node's socket.
func (o *one) viaSocket() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", o.Config.SocketPath())
	}}}
}

func (o *one) post(t *testing.T, query, contentType, body string) (int, api.Published) {
	t.Helper()
	resp, err := o.viaSocket().Post("http://agent/v1/topics/orders/messages"+query, contentType, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var p api.Published
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, p
}

func TestMessagesOverHTTPAreStoredOnceAndInOrder(t *testing.T) {
	t.Parallel()
	o := newOne(t, "")
	o.Start(t)
	var body strings.Builder
	for i := range 500 {
		fmt.Fprintf(&body, `{"id":"e%d","k":"k %d","n":%d}`+"\n", i, i%7, i)
	}
	for _, duplicate := range []bool{false, true} {
		code, p := o.post(t, "?key_field=k&id_field=id", "application/x-ndjson", body.String())
		if code != http.StatusOK || len(p.Messages) != 500 {
			t.Fatalf("got %d, %q, %d messages", code, p.Error, len(p.Messages))
		}
		for i, r := range p.Messages {
			if want := fmt.Sprintf("k%%20%d", i%7); r.Duplicate != duplicate || r.Key != want || r.Seq == 0 || r.Line != i+1 {
				t.Fatalf("message %d: %+v", i, r)
			}
		}
	}
	o.WaitIdle(t, 500)
	for k := range 7 {
		lines := o.Lines(t)[fmt.Sprintf("k%%20%d", k)]
		for i, line := range lines {
			if want := fmt.Sprintf(`"n":%d}`, i*7+k); !strings.HasSuffix(line, want) {
				t.Errorf("key %d, message %d: %s, want %s", k, i, line, want)
			}
		}
		if len(lines) < 71 {
			t.Errorf("key %d has %d messages", k, len(lines))
		}
	}
	o.End(t)
}

func TestBadMessagesOverHTTPLeaveTheGoodOnesUnpublished(t *testing.T) {
	t.Parallel()
	o := newOne(t, "")
	o.Start(t)
	long := strings.Repeat("x", 600)
	empty := publisher.Message{Headers: nats.Header{"Content-Type": {"text/plain"}}}
	fits := 1<<20 - int(empty.WireSize()) // Of max_payload.
	for _, c := range []struct {
		query, contentType, body string
		code                     int
		want                     string
	}{
		{"?key_field=k", "application/x-ndjson", `{"k":"a"}` + "\n" + `{"k":"` + long + `"}`, 400, "line 2: key is too long"},
		{"", "text/plain", "x", 400, "no key"},
		{"?subject=others.a", "text/plain", "x", 400, "does not belong"},
		{"?key=a&subject=orders.a", "text/plain", "x", 400, "not both"},
		{"?key=a", "text/plain", strings.Repeat("x", fits+1), 413, "max_payload"},
		{"?subject=orders." + strings.Repeat("k", 4070), "text/plain", "x", 400, "1024"},
		{"?subject=orders.*", "text/plain", "x", 400, "not a valid subject token"},
		{"?subject=orders.a%1b", "text/plain", "x", 400, "not a valid subject token"},
		{"?key=a", "text/plain\x80" + strings.Repeat("y", 33<<10), "x", 413, "at most 32768"},
	} {
		code, p := o.post(t, c.query, c.contentType, c.body)
		if code != c.code || !strings.Contains(p.Error, c.want) || p.ErrCode == 0 {
			t.Errorf("%.100s: got %d, %d, %q", c.query, code, p.ErrCode, p.Error)
		}
	}
	code, p := o.post(t, "?subject=orders.a", "text/plain", strings.Repeat("x", fits))
	if code != http.StatusOK || p.Messages[0].Seq != 1 || p.Messages[0].Outcome != api.OutcomeStored {
		t.Errorf("after all that was refused: got %d, %+v", code, p)
	}
	o.End(t)
}

func TestAFullTopicAnswers507AndKeepsTheOrderOfAKey(t *testing.T) {
	t.Parallel()
	o := newOne(t, `max_bytes = "64KiB"`)
	o.Start(t)
	line := `"` + strings.Repeat("x", 20<<10) + "\"\n"
	code, p := o.post(t, "?key=a", "application/x-ndjson", strings.Repeat(line, 50))
	if code != http.StatusInsufficientStorage || !strings.Contains(p.Error, "of 50 messages") {
		t.Fatalf("got %d, %q", code, p.Error)
	}
	outcomes := ""
	for _, r := range p.Messages {
		outcomes += r.Outcome + " "
	}
	if !regexp.MustCompile("^(stored )+refused (unsent )+$").MatchString(outcomes) {
		t.Errorf("got %s", outcomes)
	}
	o.End(t)
}
