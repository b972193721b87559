// Package skewclock lets tests put the clocks of one node wrong: in a binary built with the tag "skewclock", and with
// the overlay that internal/harness/fault/clock makes, the wall clock and our boot-time clock are ahead by what a file
// says. Timers and Go's monotonic clock are not touched. In any other build there is nothing of it.
package skewclock

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Variable names the environment's variable for the file that says how wrong the clocks are. It may be written anew
// while the process runs.
const Variable = "LEASEHOLD_SKEWCLOCK"

// Skew is how wrong the clocks of a process are. The zero value is that they are right.
type Skew struct {
	Wall  time.Duration // How far the wall clock is ahead.
	Drift float64       // How much of each second it gains besides, from when the process learns of it.
	Boot  time.Duration // How far the boot-time clock is ahead, as after a suspend.
}

// Said is the line that the process prints when it has taken the skew in.
func (s Skew) Said() string {
	return fmt.Sprintf("skewclock: wall %v, drift %g, boot %v", s.Wall, s.Drift, s.Boot)
}

// Save writes the file, for the process to take in within about a tenth of a second. It replaces the file in one step,
// so that nobody reads half of one.
func (s Skew) Save(path string) error {
	text := fmt.Sprintf("%d %s %d\n", s.Wall, strconv.FormatFloat(s.Drift, 'g', -1, 64), s.Boot)
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		return fmt.Errorf("write the skew: %w", err)
	}
	return os.Rename(path+".new", path)
}

// Load reads the file.
func Load(path string) (Skew, error) {
	var s Skew
	text, err := os.ReadFile(path)
	if err != nil {
		return s, fmt.Errorf("read the skew: %w", err)
	}
	if _, err := fmt.Sscan(strings.TrimSpace(string(text)), &s.Wall, &s.Drift, &s.Boot); err != nil {
		return s, fmt.Errorf("read the skew %q: %w", text, err)
	}
	return s, nil
}
