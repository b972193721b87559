package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"leasehold/internal/plural"
)

// count is a number with its noun: "1 node", "3 nodes", "20,000 rows".
func count(n int, noun string) string { return plural.Of(n, noun) }

// countsText lists counts by name: "n1 22, n2 21".
func countsText(counts map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return strings.Join(parts, ", ")
}
