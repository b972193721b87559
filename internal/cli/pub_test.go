package cli

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/api"
	"leasehold/internal/bytesize"
	"leasehold/partitioner"
	"leasehold/partitioner/publisher"
	"leasehold/partitioner/stream"
)

// publishTo runs a broker with the topic "orders" and an agent that knows of it, and returns the agent's socket.
func publishTo(t *testing.T) string {
	t.Helper()
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(),
		NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the broker does not start")
	}
	topic := partitioner.Topic{Name: "orders", Partitions: 4, MaxBytes: bytesize.MiB}.WithDefaults()
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Ensure(t.Context(), js, topic,
		stream.Options{Replicas: 1, MaxPayload: 64 * bytesize.KiB}); err != nil {
		t.Fatal(err)
	}
	info := api.TopicInfo{Name: topic.Name, Partitions: topic.Partitions, Subject: topic.Subject, Key: topic.Key,
		DedupWindowMS: topic.DedupWindow.Milliseconds(), MaxPayload: int64(64 * bytesize.KiB), Server: s.ClientURL()}
	return agent(t, &fakeSource{status: healthy(), topic: info})
}

func summaryOf(t *testing.T, r ran) pubSummary {
	t.Helper()
	var s pubSummary
	if err := json.Unmarshal([]byte(r.out), &s); err != nil {
		t.Fatalf("%v in %q, stderr %q", err, r.out, r.err)
	}
	return s
}

func TestPubCountsEveryLine(t *testing.T) {
	addr := publishTo(t)
	lines := `{"id":"e1","who":{"id":"c-17"}}` + "\n" + `{"id":"e2","who":{"id":"odd key.*"}}` + "\n\n" +
		`{"id":3,"who":{"id":18}}` + "\n" + `{"id":"e4"}` + "\n" + `not json` + "\n" + `{"id":"e1","who":{"id":"c-17"}}` +
		"\n" + `{"id":"e5","who":{"id":""}}`
	r := runWith(t, lines, "pub", "orders", "--key-field", "who.id", "--id-field", "id", "--addr", addr, "-o", "json")
	s := summaryOf(t, r)
	if s.Messages != 7 || s.Stored != 3 || s.Duplicate != 1 || s.Refused != 3 || s.Unknown != 0 {
		t.Errorf("got %+v", s)
	}
	r.want(t, exitPartly, `no field \"who.id\"`, "not JSON", "first: line 5", "is empty", "Warning: 1 of 7 messages")
}

func TestPubOfAllDuplicatesEndsWell(t *testing.T) {
	addr := publishTo(t)
	file := writeFile(t, filepath.Join(t.TempDir(), "in.ndjson"), `{"id":"e1","k":"a"}`+"\n")
	args := []string{"pub", "orders", "--file", file, "--key-field", "k", "--id-field", "id", "--addr", addr}
	run(t, args...).want(t, exitOK, "stored 1, duplicate 0")
	run(t, args...).want(t, exitOK, "stored 0, duplicate 1", "Warning")
}

func TestProgressCountsMessages(t *testing.T) {
	for since, want := range map[time.Duration]string{10 * time.Millisecond: "stored 5,000",
		2 * time.Second: "stored 5,000 (2,500 messages/s)"} {
		if got := progressText(5000, since); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPubOfOneMessage(t *testing.T) {
	addr := publishTo(t)
	run(t, "pub", "orders", "hello", "--key", "a b/c", "--header", "Trace=1", "--addr", addr).want(t, exitOK, "stored 1")
	run(t, "pub", "orders", "hello", "--addr", addr).want(t, exitUsage, "the message needs a key")
	run(t, "pub", "orders", strings.Repeat("x", 100<<10), "--key", "a", "--addr", addr).
		want(t, exitFailed, "larger than max_payload")
	run(t, "pub", "nope", "hello", "--key", "a", "--addr", addr).want(t, exitNotFound, "nope")
	run(t, "pub", "orders", "hello", "--key", "a", "--addr", addr, "--server", "127.0.0.1:1").
		want(t, exitUnreachable, "connect to NATS")
}

func TestUnknownResultStopsPublishing(t *testing.T) {
	stopped := make(chan error, 1)
	tally := newTally(func(cause error) { stopped <- cause })
	tally.taken()
	tally.add(1, publisher.Result{Outcome: publisher.Unknown, Err: publisher.ErrNoAnswer})
	if err := <-stopped; err != errUnknownResult {
		t.Errorf("stopped with %v", err)
	}
	if s := tally.summary(); s.Unknown != 1 || s.err() == nil {
		t.Errorf("got %+v", s)
	}
}

func TestRateIsHeld(t *testing.T) {
	addr := publishTo(t)
	started := time.Now()
	runWith(t, strings.Repeat("x\n", 30), "pub", "orders", "--key", "a", "--rate", "100", "--addr", addr).
		want(t, exitOK, "stored 30")
	if took := time.Since(started); took < 150*time.Millisecond {
		t.Errorf("30 messages at 100 a second took %s", took)
	}
}

func TestPubTakesNoPartOfALineForTheWhole(t *testing.T) {
	addr := publishTo(t)
	fields := []string{"pub", "orders", "--key-field", "k", "--id-field", "id", "--addr", addr}
	r := runWith(t, "{\"id\":\"M\xfcller\",\"k\":\"a\"}\n{\"id\":\"M\xf6ller\",\"k\":\"b\"}\n", fields...)
	r.want(t, exitFailed, "stored 0, duplicate 0, refused 2", "2 messages: line is not UTF-8: byte 9 is 0xfc",
		"(first: line 1)")
	r = runWith(t, `{"id":"x1","k":"a"}{"id":"x2","k":"b"}`+"\n"+`{"id":"x3","k":"a"},`+"\n"+`{"id":"x4","k":"a"}`,
		fields...)
	r.want(t, exitPartly, "stored 1, duplicate 0, refused 2", "not one JSON value")
	r = runWith(t, "\ufeff"+`{"id":"x5","k":"a"}`+"\n"+`{"id":"x6","k":"b"}`, fields...)
	r.want(t, exitOK, "stored 2")
}

func TestPubRefusesInputThatIsNotLinesAsAWhole(t *testing.T) {
	addr := publishTo(t)
	for _, choice := range [][]string{{"--key", "a"}, {"--key-field", "k"}} {
		args := append([]string{"pub", "orders", "--addr", addr}, choice...)
		runWith(t, "[\n  {\"k\":\"a\"},\n  {\"k\":\"b\"}\n]\n", args...).want(t, exitFailed, "not one message a line",
			"jq -c")
		runWith(t, "\xff\xfe{\x00}\x00\n\x00", args...).want(t, exitFailed, "UTF-16", "iconv")
	}
	run(t, "pub", "orders", "hello", "--key", "M\xfcller", "--addr", addr).want(t, exitUsage, "UTF-8")
	run(t, "pub", "orders", "hello", "--key", "a", "--id", "\xed\xa0\x80", "--addr", addr).want(t, exitUsage, "UTF-8")
}
