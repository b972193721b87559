package lane

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"leasehold/internal/bytesize"
	"leasehold/partitioner"
	"leasehold/partitioner/stream"
	"leasehold/worker/deadletter"
	"leasehold/worker/workertest"
)

// letterBoxes are the real dead letters and the fake ones, which must behave alike.
func letterBoxes(t *testing.T) map[string]DeadLetters {
	js := workertest.StartBroker(t)
	opt := stream.DeadLetterOptions{Replicas: 1, Sizing: stream.Sizing{Stated: 8 * bytesize.MiB}}
	if _, err := stream.EnsureDeadLetters(t.Context(), js, "billing", opt); err != nil {
		t.Fatal(err)
	}
	return map[string]DeadLetters{"real": &deadletter.Store{Group: "billing", JS: js}, "fake": &fakeDeadLetters{}}
}

func TestLetterBoxContract(t *testing.T) {
	for name, box := range letterBoxes(t) {
		t.Run(name, func(t *testing.T) {
			dead, parked := boxedAt(partitioner.Dead, 3, "a", 7), boxedAt(partitioner.Parked, 3, "a.b", 9)
			var stored []uint64
			for _, l := range []*deadletter.Record{dead, parked, parked, boxedAt(partitioner.Parked, 3, "a.b", 8),
				boxedAt(partitioner.Parked, 4, "c", 1)} {
				n, err := box.Put(t.Context(), l)
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
			if _, _, err := box.Parked(t.Context(), 3, 5); err == nil {
				t.Error("a look that does not know the newest letter is taken for complete")
			}
			for l, want := range map[*deadletter.Record]bool{dead: true, boxedAt(partitioner.Dead, 3, "a", 8): false,
				boxedAt(partitioner.Parked, 3, "a", 7): false} {
				if has, err := box.Has(t.Context(), l.DeadLetterPlace); has != want || err != nil {
					t.Errorf("has %+v: %v, %v", l.DeadLetterPlace, has, err)
				}
			}
			// The second is in the middle of the stream; without the first, the stream holds nothing that old any more.
			for _, stored := range []uint64{2, 2, 1, 1} {
				if err := box.Remove(t.Context(), stored); err != nil {
					t.Errorf("remove %d, be it gone or not: %v", stored, err)
				}
			}
			wantPlaces(t, box, 3, "a.b 8")
			if _, err := box.Get(t.Context(), parked.DeadLetterPlace); !errors.Is(err, deadletter.ErrNotFound) {
				t.Errorf("take what is gone: %v", err)
			}
			if n, err := box.Put(t.Context(), parked); n != 5 || err != nil {
				t.Errorf("put again what was removed: %d, %v", n, err)
			}
		})
	}
}

func wantPlaces(t *testing.T, box DeadLetters, partition int, want string) {
	t.Helper()
	found, _, err := box.Parked(t.Context(), partition, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, key := range slices.Sorted(maps.Keys(found)) {
		for _, p := range found[key] {
			got = append(got, fmt.Sprint(p.LetterKey, " ", p.Seq))
		}
	}
	if strings.Join(got, ", ") != want {
		t.Errorf("parked in partition %d: %v, want %s", partition, got, want)
	}
}

func boxedAt(kind partitioner.DeadLetterKind, partition int, key string, seq uint64) *deadletter.Record {
	place := partitioner.DeadLetterPlace{Group: "billing", Partition: partition, Kind: kind,
		LetterKey: partitioner.NewLetterKey(key), Seq: seq}
	return &deadletter.Record{DeadLetterPlace: place, Key: key}
}
