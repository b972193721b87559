package duration

import (
	"testing"
	"time"
)

func TestDaysAndWeeksAreUnitsToo(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"7d": 7 * day, "2w": 14 * day, "1d12h": 36 * time.Hour, "1w2d3h4m5s": 9*day + 3*time.Hour + 4*time.Minute +
			5*time.Second,
		"1.5d": 36 * time.Hour, ".5d": 12 * time.Hour, "-2d": -2 * day, "-1d12h": -36 * time.Hour, "0d": 0,
		"500ms": 500 * time.Millisecond, "2m": 2 * time.Minute, "-2h": -2 * time.Hour, "0": 0, "+2h": 2 * time.Hour,
		"106751d": 106751 * day,
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("%q: got %s, %v, want %s", text, got, err, want)
		}
	}
}

func TestWhatIsNotALengthOfTimeIsRefused(t *testing.T) {
	for _, text := range []string{"", "d", "7", "7 d", "7D", "7days", "1y", "2mo", "5md", "1d-2h", "1d+2h", "--1d", "1dx",
		"106752d", "200000w", "106751d24h", "9999999999999999999d", "1e3d", "P7D"} {
		if got, err := Parse(text); err == nil {
			t.Errorf("%q: got %s", text, got)
		}
	}
}
