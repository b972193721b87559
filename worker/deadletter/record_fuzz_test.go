package deadletter

import (
	"maps"
	"reflect"
	"testing"
	"time"

	"leasehold/partitioner"
)

// Whatever headers a stored letter has, it is read, and comes back from being
// stored again as it was; and no header of a publisher's gets out as one that
// the broker acts upon.
func FuzzLetterHeaders(f *testing.F) {
	f.Add("Leasehold-Attempts", "8", "Leasehold-Error", "no such customer")
	f.Add("Leasehold-Original-Nats-Msg-Id", "m1", "Nats-Msg-Id", "m2")
	f.Add("Leasehold-Original-Leasehold-Original-A", "1", "leasehold-original-b", "2")
	f.Add("Leasehold-First-Failure", "2026-11-26T10:00:00.5+01:00", "Leasehold-Published", "0001-01-01T00:00:00Z")
	f.Add("Leasehold-Epoch", "18446744073709551616", "Leasehold-Requeues", "-1")
	f.Add("Leasehold-Last-Failure", "9999-12-31T23:59:59.999999999Z", "Leasehold-Reason", "\r\n")
	f.Add("", "", "traceparent", "\xff")
	f.Add("a b", " x ", "Leasehold-Packed-Bytes", "4")
	f.Add("Leasehold-Packed-Bytes", "-1", "Leasehold-Key", "k2")
	place := partitioner.DeadLetterPlace{Group: "billing", Partition: 3, Kind: partitioner.Dead, LetterKey: "k", Seq: 7}
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		stored := map[string][]string{name1: {value1, value2}, name2: {value2}, "none": nil}
		letter := decode(place, 9, stored, []byte("data"))
		// What is cut or cleaned is so after the first time.
		again := storedAgain(letter)
		twice := storedAgain(again)
		if !reflect.DeepEqual(again, twice) {
			t.Fatalf("%q is\n%+v\nand then\n%+v", stored, again, twice)
		}
		if !maps.EqualFunc(letter.Headers, again.Headers, func(a, b []string) bool { return reflect.DeepEqual(a, b) }) {
			t.Fatalf("the publisher's headers were %q and are %q", letter.Headers, again.Headers)
		}
		if letter.Attempts != again.Attempts || letter.Epoch != again.Epoch || letter.Requeues != again.Requeues ||
			!sameTime(letter, again) {
			t.Fatalf("%q is\n%+v\nand then\n%+v", stored, letter, again)
		}
		headers, _ := letter.encode()
		for name := range headers {
			if len(name) > 5 && name[:5] == "Nats-" {
				t.Fatalf("%q is stored with %s", stored, name)
			}
		}
	})
}

func storedAgain(l *Record) *Record {
	headers, data := l.encode()
	return decode(l.DeadLetterPlace, l.Stored, headers, data)
}

func sameTime(a, b *Record) bool {
	for _, pair := range [][2]time.Time{{a.FirstFail, b.FirstFail}, {a.LastFail, b.LastFail}, {a.Published, b.Published}} {
		if !pair[0].Equal(pair[1]) {
			return false
		}
	}
	return true
}
