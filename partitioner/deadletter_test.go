package partitioner

import (
	"strings"
	"testing"

	"leasehold/internal/bytesize"
)

func TestDeadLetterSubjectsComeBack(t *testing.T) {
	for _, want := range []DeadLetterPlace{
		{Group: "billing", Partition: 0, Kind: Dead, Key: "a", Seq: 1},
		{Group: "b-2", Partition: 1023, Kind: Parked, Key: "a.b.c", Seq: 1<<64 - 1},
		{Group: "g", Partition: 7, Kind: Parked, Key: "5", Seq: 6},
		{Group: "g", Partition: 7, Kind: Dead, Key: strings.Repeat("x", MaxKey), Seq: 6},
	} {
		got, err := ParseDeadLetter(want.Subject())
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", want.Subject(), got, err)
		}
	}
}

func FuzzParseDeadLetter(f *testing.F) {
	for _, s := range []string{"dlq.g.3.parked.a.b.17", "dlq.g.3.dead.a.1", "dlq.g.-1.dead.a.1", "dlq.g.3.gone.a.1", "dlq.g.3.dead..1", "dlq.g.3.dead.1", "", "dlq....."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		p, err := ParseDeadLetter(subject)
		if err != nil {
			return
		}
		if p.Partition < 0 || p.Key == "" || p.Kind != Dead && p.Kind != Parked {
			t.Fatalf("%q is taken for %+v", subject, p)
		}
		if again, err := ParseDeadLetter(p.Subject()); err != nil || again != p {
			t.Fatalf("%q: %+v, spelled again %+v, %v", subject, p, again, err)
		}
	})
}

func TestDeadLettersOfAnotherHandAreRefused(t *testing.T) {
	js := newJetStream(t, startBroker(t, "").connect())
	opt := DeadLetterOptions{Replicas: 1, MaxBytes: 8 * bytesize.MiB}
	if _, err := EnsureDeadLetters(t.Context(), js, "billing", opt); err != nil {
		t.Fatal(err)
	}
	opt.MaxBytes *= 2
	stream, err := EnsureDeadLetters(t.Context(), js, "billing", opt)
	if err != nil || stream.CachedInfo().Config.MaxBytes != int64(opt.MaxBytes) {
		t.Fatalf("a raised max_bytes: %v", err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgsPerSubject = 5
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := EnsureDeadLetters(t.Context(), js, "billing", opt); err == nil || !strings.Contains(err.Error(), "dlq_billing") {
		t.Errorf("a stream that keeps several letters a subject: %v", err)
	}
}
