package handler

import (
	"context"
	"testing"
	"time"
)

// BenchmarkCallContext is the context of a call that nobody asks for its end, beside one of the standard library.
func BenchmarkCallContext(b *testing.B) {
	parent, cancel := context.WithCancelCause(b.Context())
	defer cancel(nil)
	b.Run("lazy", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			NewCallContext(parent, time.Now().Add(time.Minute)).End()
		}
	})
	b.Run("eager", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, end := context.WithDeadlineCause(parent, time.Now().Add(time.Minute), ErrTimeout)
			end()
		}
	})
}
