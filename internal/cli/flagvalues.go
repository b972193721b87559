package cli

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"leasehold/internal/duration"
)

// atLeast is a whole number that refuses what is less than its bound as soon as it is read.
type atLeast struct {
	value *int
	least int
}

// numberVar adds a flag for a whole number.
func numberVar(cmd *cobra.Command, value *int, name string, standard, least int, usage string) {
	*value = standard
	cmd.Flags().Var(atLeast{value, least}, name, usage)
}

func (n atLeast) Set(text string) error {
	v, err := strconv.Atoi(text)
	if err != nil || v < n.least {
		return fmt.Errorf("must be a whole number, at least %d", n.least)
	}
	*n.value = v
	return nil
}

// String is empty while there is none: help, which asks a zero value too, then shows no default.
func (n atLeast) String() string {
	if n.value == nil || *n.value < n.least {
		return ""
	}
	return strconv.Itoa(*n.value)
}

func (atLeast) Type() string { return "int" }

// length is a length of time, in days and weeks too, and not negative.
type length struct {
	value    *time.Duration
	positive bool // 0 is refused, too.
}

// lengthVar adds a flag for a length of time.
func lengthVar(cmd *cobra.Command, value *time.Duration, name string, standard time.Duration, usage string) {
	*value = standard
	cmd.Flags().Var(length{value: value}, name, usage)
}

// limitVar adds a flag for how long to wait at most. Its standard may be 0, for no limit.
func limitVar(cmd *cobra.Command, value *time.Duration, name string, standard time.Duration, usage string) {
	*value = standard
	cmd.Flags().Var(length{value: value, positive: true}, name, usage)
}

func (l length) Set(text string) error {
	d, err := duration.Parse(text)
	switch {
	case err != nil:
		return errors.New("is not a valid duration: write one like 10m, 24h or 7d")
	case d < 0:
		return errors.New("must not be negative")
	case d == 0 && l.positive:
		return errors.New("must be positive, like 10s")
	}
	*l.value = d
	return nil
}

// String is empty for none, as that of atLeast.
func (l length) String() string {
	if l.value == nil || *l.value == 0 {
		return ""
	}
	return l.value.String()
}

func (length) Type() string { return "duration" }

// word is text that must be there if it is given at all: an empty one is a variable that a script has not set, and left
// out it would mean all.
type word struct{ value *string }

func (t word) Set(value string) error {
	if value == "" {
		return errors.New("must not be empty")
	}
	*t.value = value
	return nil
}

// String is empty for none, as that of atLeast.
func (t word) String() string {
	if t.value == nil {
		return ""
	}
	return *t.value
}

func (word) Type() string { return "string" }
