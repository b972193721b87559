package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/bytesize"
	"leasehold/partitioner/brokertest"
)

// freeOf is a Sizing.Free of a fixed size, or of an error.
func freeOf(n bytesize.Size, err error) func(context.Context) (bytesize.Size, error) {
	return func(context.Context) (bytesize.Size, error) { return n, err }
}

func ensureSized(t *testing.T, js jetstream.JetStream, stated bytesize.Size, s Sizing) jetstream.StreamConfig {
	t.Helper()
	topic := orders()
	topic.MaxBytes = stated
	stream, err := Ensure(brokertest.Context(t), js, topic, Options{Replicas: 1, Sizing: s})
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().Config
}

// TestSizesAreGrantedAndKept is the life of one stream: each step is a start with another config.
func TestSizesAreGrantedAndKept(t *testing.T) {
	const mib = bytesize.MiB
	js := brokertest.JetStream(t, brokertest.Start(t, "").Connect())
	for _, step := range []struct {
		what                string
		stated, usual, free bytesize.Size
		size, wanted        bytesize.Size
	}{
		{"a new one without a size, and too little room", 0, 64 * mib, 16 * mib, 16 * mib, 64 * mib},
		{"again, with room", 0, 64 * mib, 999 * mib, 16 * mib, 64 * mib},
		{"another default", 0, 128 * mib, 999 * mib, 16 * mib, 64 * mib},
		{"its own size", 16 * mib, 64 * mib, 0, 16 * mib, 0},
		{"a raise that fits", 32 * mib, 64 * mib, 16 * mib, 32 * mib, 0},
		{"a raise that fits in part", 64 * mib, 64 * mib, 4*mib + 17, 36 * mib, 64 * mib},
		{"a raise while more is taken than there is", 64 * mib, 64 * mib, -16 * mib, 36 * mib, 64 * mib},
		{"no size", 0, 64 * mib, 999 * mib, 36 * mib, 64 * mib},
		{"a smaller raise", 38 * mib, 64 * mib, 4 * mib, 38 * mib, 0},
		{"a smaller one", 8 * mib, 64 * mib, -16 * mib, 8 * mib, 0},
		{"no size", 0, 64 * mib, 999 * mib, 8 * mib, 0},
	} {
		c := ensureSized(t, js, step.stated, Sizing{Default: step.usual, Free: freeOf(step.free, nil)})
		if got := bytesize.Size(c.MaxBytes); got != step.size || WantedBytes(c) != step.wanted {
			t.Errorf("%s: size %s, wanted %s; want %s and %s", step.what, got, WantedBytes(c), step.size, step.wanted)
		}
	}
}

func TestANewStreamIsUsableWithNothingFree(t *testing.T) {
	for _, free := range []bytesize.Size{0, -bytesize.GiB, bytesize.MiB} {
		js := brokertest.JetStream(t, brokertest.Start(t, "").Connect())
		c := ensureSized(t, js, bytesize.GiB, Sizing{Free: freeOf(free, nil)})
		if bytesize.Size(c.MaxBytes) != MinBytes || WantedBytes(c) != bytesize.GiB {
			t.Errorf("%s free: size %d, metadata %v", free, c.MaxBytes, c.Metadata)
		}
	}
}

func TestWhatIsFreeIsAskedForOnlyWhereItMatters(t *testing.T) {
	js := brokertest.JetStream(t, brokertest.Start(t, "").Connect())
	ensureSized(t, js, 16*bytesize.MiB, Sizing{Free: freeOf(bytesize.GiB, nil)})
	broken := Sizing{Default: bytesize.GiB, Free: freeOf(0, errors.New("nobody answers"))}
	for _, stated := range []bytesize.Size{0, 16 * bytesize.MiB, 8 * bytesize.MiB} {
		ensureSized(t, js, stated, broken)
	}
}

// A stream that holds more than its new size loses nothing, and refuses messages until there is less.
func TestALowerSizeDeletesNothing(t *testing.T) {
	js := brokertest.JetStream(t, brokertest.Start(t, "").Connect())
	ensureSized(t, js, bytesize.MiB, Sizing{})
	for range 5 {
		if _, err := js.Publish(t.Context(), "orders.a", make([]byte, 10<<10)); err != nil {
			t.Fatal(err)
		}
	}
	ensureSized(t, js, 20*bytesize.KiB, Sizing{})
	stream, err := js.Stream(t.Context(), "orders")
	if err != nil || stream.CachedInfo().State.Msgs != 5 {
		t.Errorf("%+v, %v", stream.CachedInfo().State, err)
	}
	if _, err := js.Publish(t.Context(), "orders.a", nil); err == nil {
		t.Error("a stream that holds more than its size takes a message")
	}
	ensureSized(t, js, bytesize.MiB, Sizing{})
	if _, err := js.Publish(t.Context(), "orders.a", nil); err != nil {
		t.Errorf("after the raise: %v", err)
	}
}

func TestDeadLettersAreSizedAsTopicsAre(t *testing.T) {
	js := brokertest.JetStream(t, brokertest.Start(t, "").Connect())
	for _, step := range []struct{ stated, free, size, wanted bytesize.Size }{
		{0, 0, MinBytes, bytesize.GiB}, {16 * bytesize.MiB, bytesize.GiB, 16 * bytesize.MiB, 0},
		{bytesize.GiB, 0, 16 * bytesize.MiB, bytesize.GiB}, {0, bytesize.GiB, 16 * bytesize.MiB, bytesize.GiB},
	} {
		stream, err := EnsureDeadLetters(brokertest.Context(t), js, "billing", DeadLetterOptions{
			Replicas: 1, Sizing: Sizing{Stated: step.stated, Default: bytesize.GiB, Free: freeOf(step.free, nil)},
		})
		if err != nil {
			t.Fatal(err)
		}
		if c := stream.CachedInfo().Config; bytesize.Size(c.MaxBytes) != step.size || WantedBytes(c) != step.wanted {
			t.Errorf("%+v: size %d, metadata %v", step, c.MaxBytes, c.Metadata)
		}
	}
	all, err := Reservations(brokertest.Context(t), js)
	if err != nil || len(all) != 1 || all[0].Wanted != bytesize.GiB || all[0].Bytes != 16*bytesize.MiB {
		t.Errorf("reservations %+v, %v", all, err)
	}
	if group, ok := all[0].Group(); !ok || group != "billing" {
		t.Errorf("%+v is not of group billing", all[0])
	}
	const listed, mib = 16 * bytesize.MiB, bytesize.MiB
	for _, step := range []struct{ listed, free, want bytesize.Size }{
		// listed before the raise
		{listed, -mib, 0}, {listed, bytesize.KiB, 0}, {listed, mib, 17 * mib}, {listed, bytesize.GiB, 0},
		{17 * mib, bytesize.GiB, bytesize.GiB}, {bytesize.GiB, 9 * bytesize.GiB, 0},
	} {
		if size, err := Grow(brokertest.Context(t), js, Reservation{Stream: "dlq_billing", Bytes: step.listed},
			step.free); size != step.want || err != nil {
			t.Errorf("with %s free it has %s, want %s: %v", step.free, size, step.want, err)
		}
	}
	for range 2 {
		if err := Delete(brokertest.Context(t), js, "dlq_billing"); err != nil {
			t.Error(err)
		}
	}
}

// TestStreamsThatNobodyAnswersForAreMissing: their sizes would be granted a second time.
func TestStreamsThatNobodyAnswersForAreMissing(t *testing.T) {
	nc := brokertest.Start(t, "").Connect()
	js := brokertest.JetStream(t, nc)
	names := []string{"a", "m", "z"}
	for _, name := range names {
		if _, err := js.CreateStream(t.Context(),
			jetstream.StreamConfig{Name: name, MaxBytes: int64(bytesize.MiB)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, lost := range names {
		got, err := Reservations(brokertest.Context(t), leaderless(t, nc, lost))
		var missing *MissingError
		if !errors.As(err, &missing) || !slices.Equal(missing.Streams, []string{lost}) {
			t.Errorf("without a leader of %s: %v", lost, err)
		}
		for _, r := range got {
			if r.Stream == lost || r.Bytes != bytesize.MiB {
				t.Errorf("without a leader of %s: %+v", lost, r)
			}
		}
		if len(got) != 2 {
			t.Errorf("without a leader of %s: %d others are listed, want 2", lost, len(got))
		}
	}
	if got, err := Reservations(brokertest.Context(t), js); len(got) != 3 || err != nil {
		t.Errorf("%d are listed, want 3: %v", len(got), err)
	}
}

// leaderless lists streams as a cluster does in which one has no leader (nats-server v2.15.2,
// server/jetstream_cluster.go: jsClusteredStreamListRequest).
func leaderless(t *testing.T, nc *nats.Conn, lost string) jetstream.JetStream {
	t.Helper()
	sub, err := nc.Subscribe(lost+".API.STREAM.LIST", func(m *nats.Msg) {
		answer, err := nc.Request("$JS.API.STREAM.LIST", m.Data, 10*time.Second)
		if err != nil {
			return
		}
		var page map[string]any
		if json.Unmarshal(answer.Data, &page) != nil {
			return
		}
		streams, _ := page["streams"].([]any)
		kept := slices.DeleteFunc(streams, func(s any) bool {
			return s.(map[string]any)["config"].(map[string]any)["name"] == lost
		})
		if len(kept) < len(streams) {
			page["missing"] = []string{lost}
		}
		page["streams"] = kept
		text, _ := json.Marshal(page)
		_ = m.Respond(text)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	js, err := jetstream.NewWithAPIPrefix(nc, lost+".API")
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestReservedIsThatOfTheFullestNode(t *testing.T) {
	for _, c := range []struct {
		all  []Reservation
		want bytesize.Size
	}{
		{nil, 0},
		{[]Reservation{{Bytes: 3}, {Bytes: 4}}, 7},
		{[]Reservation{{Bytes: 3, Servers: []string{"n1", "n2", "n3"}}, {Bytes: 4, Servers: []string{"n3", "n4", "n5"}}}, 7},
		{[]Reservation{{Bytes: 3, Servers: []string{"n1"}}, {Bytes: 4, Servers: []string{"n2"}}}, 4},
	} {
		if got := Reserved(c.all); got != c.want {
			t.Errorf("%+v: %d, want %d", c.all, got, c.want)
		}
	}
}

func TestWhatAStreamWaitsForIsSaidInPlainWords(t *testing.T) {
	for want, err := range map[string]error{
		"too few nodes are connected": &jetstream.APIError{Code: 400, ErrorCode: codeNoPeers,
			Description: "no suitable peers for placement, peer offline"},
		"no leader": fmt.Errorf("look: %w", context.DeadlineExceeded),
		"cannot do it yet: system temporarily unavailable": &jetstream.APIError{Code: 503, ErrorCode: 10008,
			Description: "system temporarily unavailable"},
		"it has no leader": nats.ErrNoResponders,
	} {
		if got := waitReason(err); !strings.Contains(got, want) || strings.Contains(got, "nats:") ||
			strings.Contains(got, "err_code") {
			t.Errorf("%v: %q", err, got)
		}
	}
}
