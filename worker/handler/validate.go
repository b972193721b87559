package handler

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// FaultFunc reports a fault of the value of a key.
type FaultFunc func(key, format string, args ...any)

// OneOf reports a value that is not one of those allowed.
func OneOf(fault FaultFunc, key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		fault(key, "must be %s, is %q", orList(allowed), value)
	}
}

// Within reports a duration that is not from low to high.
func Within(fault FaultFunc, key string, value, low, high time.Duration) {
	if value < low || value > high {
		fault(key, "must be from %s to %s, is %s", low, high, value)
	}
}

// orList prints names as a choice: "a", "b" or "c".
func orList(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = fmt.Sprintf("%q", n)
	}
	if len(quoted) == 1 {
		return quoted[0]
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " or " + quoted[len(quoted)-1]
}

// ValidateBatch reports a batch size that no call can have.
func ValidateBatch(fault FaultFunc, size int) {
	if size < 1 || size > MaxBatch {
		fault("batch", "must be from 1 to %d messages, is %d", MaxBatch, size)
	}
}
