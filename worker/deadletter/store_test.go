package deadletter

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/internal/bytesize"
	"leasehold/partitioner"
	"leasehold/partitioner/stream"
	"leasehold/worker/header"
	"leasehold/worker/workertest"
)

func letterAt(kind partitioner.DeadLetterKind, partition int, key string, seq uint64) *Record {
	place := partitioner.DeadLetterPlace{Group: "billing", Partition: partition, Kind: kind,
		LetterKey: partitioner.NewLetterKey(key), Seq: seq}
	return &Record{DeadLetterPlace: place, Key: key}
}

// TestLetterComesBackWhole: the largest message of a topic, with headers that the broker would act on if it saw them.
func TestLetterComesBackWhole(t *testing.T) {
	box := newStore(t)
	now := time.Now().UTC()
	want := letterAt(partitioner.Dead, 3, "a%20b", 7)
	want.Topic, want.Subject, want.Reason, want.Error = "orders", "orders.a%20b", ReasonMaxAttempts, "boom  again"
	want.Attempts, want.FirstFail, want.LastFail, want.Node, want.Epoch = 8, now.Add(-time.Minute), now, "n1", 1<<63+5
	want.Published, want.Requeues = now.Add(-time.Hour), 2
	want.Headers = map[string][]string{
		"Nats-Msg-Id": {"id-1"}, "Nats-Expected-Last-Sequence": {"77"}, "nats-rollup": {"all"}, "Leasehold-Reason": {"mine"},
		"traceparent": {"00-1"},
	}
	want.Data = bytes.Repeat([]byte("x"), 1<<20-500)
	sent := *want
	sent.Error = "boom\r\nagain"
	for i := range 2 {
		other := sent
		other.Seq += uint64(i) // The same message id twice: no duplicate here.
		if _, err := box.Put(t.Context(), &other); err != nil {
			t.Fatal(err)
		}
	}
	want.Stored = 1
	got, err := box.Get(t.Context(), want.DeadLetterPlace)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		got.Data, want.Data = nil, nil
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
}

// TestLetterOfAnyMessageFitsAndComesBack: what a plain NATS client can have stored, with our headers at their
// longest, and once more when it is requeued.
func TestLetterOfAnyMessageFitsAndComesBack(t *testing.T) {
	box := newStore(t)
	many := map[string][]string{"Nats-a": slices.Repeat([]string{"x"}, 5400)}
	names := map[string][]string{}
	for i := range 4000 {
		names[fmt.Sprintf("n%04d", i)] = []string{""}
	}
	for name, c := range map[string]struct {
		key     string
		headers map[string][]string
		size    int
	}{
		"key as long as the line":  {key: strings.Repeat("k", 4060)},
		"key of many tokens":       {key: strings.Repeat("ab.", 1300) + "c"},
		"key that is not UTF-8":    {key: "M\xfcller"},
		"key with a control":       {key: "a\x01b"},
		"key beyond JSON escapes":  {key: "\U000e0001"},
		"headers of 65,300 bytes":  {key: "k", headers: map[string][]string{"X": {strings.Repeat("h", 65300)}}},
		"5,400 reserved headers":   {key: "k", headers: many},
		"4,000 names":              {key: "k", headers: names},
		"name with a blank":        {key: "k", headers: map[string][]string{"a b": {"c"}, "d": {"e"}}},
		"name in Latin-1":          {key: "k", headers: map[string][]string{"\xfc": {"\xe9"}}},
		"value with outer blanks":  {key: "k", headers: map[string][]string{"a": {" b ", "\tc"}}},
		"value with a bare return": {key: "k", headers: map[string][]string{"a": {"b\rc"}}},
		"largest, all at once": {key: strings.Repeat("k", 4000),
			headers: map[string][]string{"X y": {strings.Repeat("h", 65000)}}, size: 1<<20 - 65100},
	} {
		t.Run(name, func(t *testing.T) {
			want := letterAt(partitioner.Parked, 3, c.key, 7)
			want.Topic, want.Subject, want.Error = "orders", "orders."+c.key, strings.Repeat("e", header.MaxReason)
			want.Headers, want.Data = c.headers, bytes.Repeat([]byte("x"), c.size)
			stored, err := box.Put(t.Context(), want)
			if err != nil {
				t.Fatal(err)
			}
			got, err := box.Get(t.Context(), want.DeadLetterPlace)
			if err != nil || got.Key != c.key || got.Subject != want.Subject || !bytes.Equal(got.Data, want.Data) ||
				len(got.Headers)+len(c.headers) > 0 && !reflect.DeepEqual(got.Headers, c.headers) {
				t.Fatalf("came back with key %.20q, %d headers, %d bytes: %v", got.Key, len(got.Headers), len(got.Data), err)
			}
			found, _, err := box.Parked(t.Context(), 3, 0)
			key := partitioner.NewLetterKey(c.key)
			if places := found[key]; err != nil || len(found) != 1 || len(places) != 1 || places[0].LetterKey != key ||
				places[0].Seq != 7 {
				t.Errorf("parked: %v, %v", found, err)
			}
			if err := box.Remove(t.Context(), stored); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestRequeuedHeadersArriveAsTheyWere: sent by the client library, read as a lane reads them.
func TestRequeuedHeadersArriveAsTheyWere(t *testing.T) {
	nc := workertest.StartBroker(t).Conn()
	sub, err := nc.SubscribeSync("again")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"plain": {"v", "w"}, "a b": {"c"}, "": {"none"}, "caf\xe9": {" x ", "y\rz"}, "(comment)": {""}, "empty": {""},
		"big one": {strings.Repeat("h", 30<<10)},
	}
	l := letterAt(partitioner.Dead, 3, "k", 7)
	l.Topic, l.Headers = "orders", want
	if err := nc.PublishMsg(&nats.Msg{Subject: "again", Header: l.RequeueHeaders(false)}); err != nil {
		t.Fatal(err)
	}
	m, err := sub.NextMsg(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	got := header.Restore(m.Header)
	if id := got[header.OriginalMessageID]; len(id) != 1 || id[0] != "orders/3/7" || RequeuesOf(got) != 1 {
		t.Errorf("id %v, requeued %d times", id, RequeuesOf(got))
	}
	delete(got, header.OriginalMessageID)
	delete(got, header.Requeues)
	if only := got[header.OnlyGroup]; len(only) != 1 || only[0] != l.Group ||
		len(l.RequeueHeaders(true)[header.OnlyGroup]) > 0 {
		t.Errorf("for the group %v alone; for all groups: %v", only, l.RequeueHeaders(true))
	}
	delete(got, header.OnlyGroup)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %.300q", got)
	}
	for _, broken := range []string{"?", "AQ", "/////w==", "AWEB"} { // No base64, or nothing that was packed.
		h := map[string][]string{header.PackedHeaders: {broken}, "a": {"b"}}
		if got := header.Restore(h); !reflect.DeepEqual(got, h) {
			t.Errorf("%q is read as %q", broken, got)
		}
	}
}

// TestWhatCanNeverBeStoredIsToldFromWhatMayBe: a dead letter that is too large is not worth a second try; a stream
// that is away is.
func TestWhatCanNeverBeStoredIsToldFromWhatMayBe(t *testing.T) {
	box := newStore(t)
	huge := letterAt(partitioner.Dead, 3, "a", 1)
	huge.Data = make([]byte, 2<<20)
	badName, long := letterAt(partitioner.Dead, 3, "a", 2), letterAt(partitioner.Dead, 3, "a", 3)
	badName.Topic, long.Topic = "or\tders", strings.Repeat("t", 70<<10)
	badName.Group = "bill ing"
	away := letterAt(partitioner.Dead, 3, "a", 4)
	away.Group = "other"
	for name, c := range map[string]struct {
		letter *Record
		final  bool
	}{"payload": {huge, true}, "subject": {badName, true}, "headers": {long, true}, "no such stream": {away, false}} {
		if _, err := box.Put(t.Context(), c.letter); err == nil || errors.Is(err, ErrRefused) != c.final {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFullDeadLettersSaySo(t *testing.T) {
	box := newStore(t)
	var err error
	for seq := uint64(1); err == nil && seq < 20; seq++ {
		l := letterAt(partitioner.Dead, 0, "a", seq)
		l.Data = make([]byte, 1<<20-1000)
		_, err = box.Put(t.Context(), l)
	}
	if !errors.Is(err, ErrFull) {
		t.Errorf("full: %v", err)
	}
}

// newStore returns the dead letters of a group on a broker.
func newStore(t *testing.T) *Store {
	t.Helper()
	js := workertest.StartBroker(t)
	opt := stream.DeadLetterOptions{Replicas: 1, Sizing: stream.Sizing{Stated: 8 * bytesize.MiB}}
	if _, err := stream.EnsureDeadLetters(t.Context(), js, "billing", opt); err != nil {
		t.Fatal(err)
	}
	return &Store{Group: "billing", JS: js}
}
