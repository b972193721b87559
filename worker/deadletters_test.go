package worker

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"leasehold/internal/bytesize"
	"leasehold/partitioner"
)

// letterBoxes are the real dead letters and the fake ones, which must behave alike.
func letterBoxes(t *testing.T) map[string]letterBox {
	js := startBroker(t)
	opt := partitioner.DeadLetterOptions{Replicas: 1, MaxBytes: 8 * bytesize.MiB}
	if _, err := partitioner.EnsureDeadLetters(t.Context(), js, "billing", opt); err != nil {
		t.Fatal(err)
	}
	return map[string]letterBox{"real": &DeadLetters{Group: "billing", JS: js}, "fake": &fakeLetters{}}
}

func letterAt(kind partitioner.DeadLetterKind, partition int, key string, seq uint64) *Letter {
	return &Letter{DeadLetterPlace: partitioner.DeadLetterPlace{Group: "billing", Partition: partition, Kind: kind, Key: key, Seq: seq}}
}

func TestLetterBoxContract(t *testing.T) {
	for name, box := range letterBoxes(t) {
		t.Run(name, func(t *testing.T) {
			dead, parked := letterAt(partitioner.Dead, 3, "a", 7), letterAt(partitioner.Parked, 3, "a.b", 9)
			var stored []uint64
			for _, l := range []*Letter{dead, parked, parked, letterAt(partitioner.Parked, 3, "a.b", 8), letterAt(partitioner.Parked, 4, "c", 1)} {
				n, err := box.put(t.Context(), l)
				if err != nil {
					t.Fatal(err)
				}
				stored = append(stored, n)
			}
			if !slices.Equal(stored, []uint64{1, 2, 2, 3, 4}) {
				t.Errorf("stored as %v", stored)
			}
			wantPlaces(t, box, 3, "a.b 8, a.b 9")
			wantPlaces(t, box, 4, "c 1")
			wantPlaces(t, box, 5, "")
			if _, err := box.parked(t.Context(), 3, 5); err == nil {
				t.Error("a look that does not know the newest letter is taken for complete")
			}
			for l, want := range map[*Letter]bool{dead: true, letterAt(partitioner.Dead, 3, "a", 8): false, letterAt(partitioner.Parked, 3, "a", 7): false} {
				if has, err := box.has(t.Context(), l.DeadLetterPlace); has != want || err != nil {
					t.Errorf("has %+v: %v, %v", l.DeadLetterPlace, has, err)
				}
			}
			// The second is in the middle of the stream; without the first, the stream holds nothing that old any more.
			for _, stored := range []uint64{2, 2, 1, 1} {
				if err := box.remove(t.Context(), stored); err != nil {
					t.Errorf("remove %d, be it gone or not: %v", stored, err)
				}
			}
			wantPlaces(t, box, 3, "a.b 8")
			if _, err := box.take(t.Context(), parked.DeadLetterPlace); !errors.Is(err, ErrNoLetter) {
				t.Errorf("take what is gone: %v", err)
			}
			if n, err := box.put(t.Context(), parked); n != 5 || err != nil {
				t.Errorf("put again what was removed: %d, %v", n, err)
			}
		})
	}
}

func wantPlaces(t *testing.T, box letterBox, partition int, want string) {
	t.Helper()
	found, err := box.parked(t.Context(), partition, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, key := range slices.Sorted(maps.Keys(found)) {
		for _, p := range found[key] {
			got = append(got, fmt.Sprint(p.Key, " ", p.Seq))
		}
	}
	if strings.Join(got, ", ") != want {
		t.Errorf("parked in partition %d: %v, want %s", partition, got, want)
	}
}

// TestLetterComesBackWhole: the largest message of a topic, with headers that the broker would act on if it saw them.
func TestLetterComesBackWhole(t *testing.T) {
	box := letterBoxes(t)["real"]
	now := time.Now().UTC()
	want := letterAt(partitioner.Dead, 3, "a%20b", 7)
	want.Topic, want.Subject, want.Reason, want.Error = "orders", "orders.a%20b", ReasonMaxAttempts, "boom  again"
	want.Attempts, want.FirstFail, want.LastFail, want.Node, want.Epoch = 8, now.Add(-time.Minute), now, "n1", 1<<63+5
	want.Published, want.Requeues = now.Add(-time.Hour), 2
	want.Headers = map[string][]string{
		"Nats-Msg-Id": {"id-1"}, "Nats-Expected-Last-Sequence": {"77"}, "nats-rollup": {"all"}, "Leasehold-Reason": {"mine"}, "traceparent": {"00-1"},
	}
	want.Data = bytes.Repeat([]byte("x"), 1<<20-500)
	sent := *want
	sent.Error = "boom\r\nagain"
	for i := range 2 {
		other := sent
		other.Seq += uint64(i) // The same message id twice: no duplicate here.
		if _, err := box.put(t.Context(), &other); err != nil {
			t.Fatal(err)
		}
	}
	want.Stored = 1
	got, err := box.take(t.Context(), want.DeadLetterPlace)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		got.Data, want.Data = nil, nil
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
}

func TestFullDeadLettersSaySo(t *testing.T) {
	box := letterBoxes(t)["real"]
	var err error
	for seq := uint64(1); err == nil && seq < 20; seq++ {
		l := letterAt(partitioner.Dead, 0, "a", seq)
		l.Data = make([]byte, 1<<20-1000)
		_, err = box.put(t.Context(), l)
	}
	if !errors.Is(err, ErrLettersFull) {
		t.Errorf("full: %v", err)
	}
}
