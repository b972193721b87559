package access

import (
	"strings"
	"testing"

	broker "github.com/nats-io/nats-server/v2/server"
)

// TestValidSubjectsAreTheBrokers: the config's text is read by the broker, so it decides.
func TestValidSubjectsAreTheBrokers(t *testing.T) {
	for _, s := range []string{
		"", ".", "a", "a.b", "a..b", ".a", "a.", "*", "a.*", "a.*.b", ">", "a.>", ">.a", "a.>.b", "a.b>", "a*", "a b", "a\tb",
		" ", "\n", "a.\r",
		"ü.x", "a\x00", `a"b`, `a\b`, strings.Repeat("x.", 500) + "x",
	} {
		want := broker.IsValidSubject(s) && !strings.ContainsAny(s, "\"\\")
		if got := ValidSubject(s); got != want {
			t.Errorf("%.40q: %v, the broker says %v", s, got, want)
		}
	}
}
