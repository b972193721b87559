package wire

import (
	"net/http"
	"testing"
	"time"
)

func TestRetryAfterIsReadAsSecondsOrAsADate(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, c := range []struct {
		value, date string
		want        time.Duration
	}{
		{"7", "", 7 * time.Second}, {" 0.25 ", "", 250 * time.Millisecond}, {"0", "", 0}, {"-3", "", 0}, {"", "", 0},
		{"soon", "", 0},
		{"1e300", "", maxAfter}, {"NaN", "", 0}, {"Inf", "", maxAfter},
		{at(9 * time.Second), "", 9 * time.Second}, {at(-time.Second), "", 0}, {at(1000 * time.Hour), "", maxAfter},
		{at(time.Hour), at(time.Hour - time.Minute), time.Minute}, // The service's clock is an hour fast.
	} {
		if got := retryAfter(c.value, c.date, now); got != c.want {
			t.Errorf("%q, sent at %q: got %s, want %s", c.value, c.date, got, c.want)
		}
	}
}
