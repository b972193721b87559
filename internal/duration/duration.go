// Package duration reads lengths of time as people write them, days and weeks too.
package duration

import (
	"errors"
	"math"
	"regexp"
	"strings"
	"time"
)

// days finds the parts in units that package time leaves out, since a day on which clocks change is not 24 hours long.
// Here every day is.
var days = regexp.MustCompile(`[0-9]*\.?[0-9]+[dw]`)

var (
	hoursOf  = map[byte]time.Duration{'d': 24, 'w': 7 * 24}
	errRange = errors.New("more than 292 years")
	errUnit  = errors.New("not a number with a unit")
)

// Parse reads what time.ParseDuration does, and the units "d" and "w": "7d", "2w", "1d12h".
func Parse(text string) (time.Duration, error) {
	unsigned := strings.TrimPrefix(text, "-")
	var sum time.Duration
	var failed error
	rest := days.ReplaceAllStringFunc(unsigned, func(part string) string {
		last := len(part) - 1
		d, err := time.ParseDuration(part[:last] + "h")
		hours := hoursOf[part[last]]
		if err != nil || d > (math.MaxInt64-sum)/hours {
			failed = errRange
			return ""
		}
		sum += d * hours
		return ""
	})
	switch {
	case failed != nil:
		return 0, failed
	case rest == unsigned:
		return time.ParseDuration(text)
	case rest == "":
		return signed(text, sum), nil
	case strings.HasPrefix(rest, "-"), strings.HasPrefix(rest, "+"):
		return 0, errUnit
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		return 0, err
	}
	if d > math.MaxInt64-sum {
		return 0, errRange
	}
	return signed(text, sum+d), nil
}

func signed(text string, d time.Duration) time.Duration {
	if strings.HasPrefix(text, "-") {
		return -d
	}
	return d
}
