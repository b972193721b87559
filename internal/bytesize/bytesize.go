// Package bytesize is a number of bytes as people write it in a config file: "2GiB", "64 MiB", 4096.
package bytesize

import (
	"fmt"

	"github.com/dustin/go-humanize"
)

// Common sizes, in bytes.
const (
	KiB Size = 1 << (10 * (iota + 1))
	MiB
	GiB
)

// Decimal units, in bytes.
const (
	kB Size = 1000
	mB      = 1000 * kB
	gB      = 1000 * mB
)

// Size is a number of bytes. It reads and prints itself as text with a unit.
type Size int64

// UnmarshalText reads "2GiB", "500MB" or a plain number of bytes.
func (s *Size) UnmarshalText(text []byte) error {
	n, err := humanize.ParseBytes(string(text))
	if err != nil || n > 1<<62 {
		return fmt.Errorf("%q is not a valid size; write a number of bytes or use a unit, like \"512MiB\" or \"2GiB\"", text)
	}
	*s = Size(n)
	return nil
}

// MarshalText prints the size so that UnmarshalText reads the same number back.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String prints whole GiB, MiB, GB, MB, KiB and kB with their unit, as they were most likely written, and anything else
// in bytes, exactly.
func (s Size) String() string {
	for _, u := range []struct {
		size Size
		name string
	}{{GiB, "GiB"}, {MiB, "MiB"}, {gB, "GB"}, {mB, "MB"}, {KiB, "KiB"}, {kB, "kB"}} {
		if s >= u.size && s%u.size == 0 {
			return fmt.Sprintf("%d%s", s/u.size, u.name)
		}
	}
	return fmt.Sprintf("%dB", int64(s))
}

// Short prints the size rounded, for people: "1.2 GiB".
func (s Size) Short() string { return humanize.IBytes(uint64(max(s, 0))) }
