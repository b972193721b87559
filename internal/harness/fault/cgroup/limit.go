package cgroup

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// period is that of the CPU quota.
const period = 100 * time.Millisecond

// Freeze stops every process of the group in the middle of what it does, and
// returns when all of them stand still.
func (g *Group) Freeze() error { return g.freeze(true) }

// Thaw lets them go on.
func (g *Group) Thaw() error { return g.freeze(false) }

func (g *Group) freeze(frozen bool) error {
	file, value := "freezer.state", "THAWED"
	switch {
	case g.core.v2 && frozen:
		file, value = "cgroup.freeze", "1"
	case g.core.v2:
		file, value = "cgroup.freeze", "0"
	case frozen:
		value = "FROZEN"
	}
	if err := write(g.core.path, file, value); err != nil {
		return err
	}
	what := map[bool]string{true: "frozen", false: "thawed"}[frozen]
	return g.settle(what, func() (bool, error) {
		is, err := g.frozen()
		return is == frozen, err
	})
}

func (g *Group) frozen() (bool, error) {
	if g.core.v2 {
		n, err := field(g.core.path, "cgroup.events", "frozen")
		return n == 1, err
	}
	state, err := read(g.core.path, "freezer.state")
	return state == "FROZEN", err // not FREEZING
}

// CPU gives the group that much of one core; 0 takes the limit away.
func (g *Group) CPU(fraction float64) error {
	d, err := g.use("cpu")
	if err != nil {
		return err
	}
	quota := time.Duration(fraction * float64(period)).Microseconds()
	limited := fraction > 0
	switch {
	case d.v2 && limited:
		return write(d.path, "cpu.max", fmt.Sprintf("%d %d", quota, period.Microseconds()))
	case d.v2:
		return write(d.path, "cpu.max", "max")
	case limited:
		return errors.Join(write(d.path, "cpu.cfs_period_us", strconv.FormatInt(period.Microseconds(), 10)),
			write(d.path, "cpu.cfs_quota_us", strconv.FormatInt(quota, 10)))
	}
	return write(d.path, "cpu.cfs_quota_us", "-1")
}

// Yield has the group run only where nobody else wants the processor, or nearly so.
func (g *Group) Yield() error {
	d, err := g.use("cpu")
	switch {
	case err != nil:
		return err
	case d.v2:
		return write(d.path, "cpu.weight", "1")
	}
	return write(d.path, "cpu.shares", "2") // the least
}

// Memory limits what the group takes from now on, in bytes; 0 takes the limit
// away. What a process had before it was under this controller is not counted:
// call it before the processes are added where that matters.
func (g *Group) Memory(bytes int64) error {
	d, err := g.use("memory")
	if err != nil {
		return err
	}
	if d.v2 {
		value := "max"
		if bytes > 0 {
			value = strconv.FormatInt(bytes, 10)
		}
		return errors.Join(write(d.path, "memory.max", value), optional(d.path, "memory.swap.max", "0"))
	}
	if bytes == 0 {
		return errors.Join(optional(d.path, "memory.memsw.limit_in_bytes", "-1"),
			write(d.path, "memory.limit_in_bytes", "-1"))
	}
	value := strconv.FormatInt(bytes, 10)
	// The sum with swap may not be below the limit without it: when the limit
	// is lowered, it goes first.
	return errors.Join(write(d.path, "memory.limit_in_bytes", value),
		optional(d.path, "memory.memsw.limit_in_bytes", value))
}

// Effects is what the kernel says it did to the group since it was made.
type Effects struct {
	Frozen       bool
	Periods      int64         // of the CPU quota, in which the group ran
	Throttled    int64         // how many of them were used up
	ThrottledFor time.Duration // summed over cores
	MemoryPeak   int64         // the most memory it had at once, in bytes; 0 where the kernel does not say
	OOMKills     int64         // processes killed for memory
}

// Effects reads the counters of the controllers in use.
func (g *Group) Effects() (Effects, error) {
	var e Effects
	var errs []error
	count := func(controller, file, name string) int64 {
		d, used := g.dirs[controller]
		if !used {
			return 0
		}
		n, err := field(d.path, file, name)
		errs = append(errs, err)
		return n
	}
	var err error
	e.Frozen, err = g.frozen()
	errs = append(errs, err)
	e.Periods = count("cpu", "cpu.stat", "nr_periods")
	e.Throttled = count("cpu", "cpu.stat", "nr_throttled")
	if g.dirs["cpu"].v2 {
		e.ThrottledFor = time.Duration(count("cpu", "cpu.stat", "throttled_usec")) * time.Microsecond
	} else {
		e.ThrottledFor = time.Duration(count("cpu", "cpu.stat", "throttled_time"))
	}
	peak, kills := "memory.max_usage_in_bytes", "memory.oom_control"
	if g.dirs["memory"].v2 {
		peak, kills = "memory.peak", "memory.events"
	}
	e.OOMKills = count("memory", kills, "oom_kill")
	if g.counts("memory", peak) {
		e.MemoryPeak = count("memory", peak, "")
	}
	return e, errors.Join(errs...)
}

// counts tells whether this kernel has the file.
func (g *Group) counts(controller, file string) bool {
	_, err := os.Stat(filepath.Join(g.dirs[controller].path, file))
	return err == nil
}

// field is the number after the name in a file of names and numbers, or the
// only number in one that has no name.
func field(dir, file, name string) (int64, error) {
	text, err := read(dir, file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		before, number, named := strings.Cut(strings.TrimSpace(line), " ")
		if !named {
			before, number = "", before
		}
		if before == name {
			n, err := strconv.ParseUint(number, 10, 64)
			return int64(min(n, math.MaxInt64)), err
		}
	}
	return 0, fmt.Errorf("%s says nothing of %s", file, name)
}

// optional sets what not every kernel has.
func optional(dir, file, text string) error {
	if err := write(dir, file, text); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
