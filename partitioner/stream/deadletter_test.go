package stream

import (
	"strings"
	"testing"

	"leasehold/internal/bytesize"
	"leasehold/partitioner/brokertest"
)

func TestDeadLettersOfAnotherHandAreRefused(t *testing.T) {
	js := brokertest.JetStream(t, brokertest.Start(t, "").Connect())
	opt := DeadLetterOptions{Replicas: 1, Sizing: Sizing{Stated: 8 * bytesize.MiB}}
	if _, err := EnsureDeadLetters(t.Context(), js, "billing", opt); err != nil {
		t.Fatal(err)
	}
	opt.Sizing.Stated *= 2
	stream, err := EnsureDeadLetters(t.Context(), js, "billing", opt)
	if err != nil || stream.CachedInfo().Config.MaxBytes != int64(opt.Sizing.Stated) {
		t.Fatalf("a raised max_bytes: %v", err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgsPerSubject = 5
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := EnsureDeadLetters(t.Context(), js, "billing", opt); err == nil ||
		!strings.Contains(err.Error(), "dlq_billing") {
		t.Errorf("a stream that keeps several letters a subject: %v", err)
	}
}
