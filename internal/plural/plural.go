// Package plural spells numbers with their nouns.
package plural

import "github.com/dustin/go-humanize"

// Of is a number with its noun: "1 node", "3 nodes", "20,000 rows".
func Of[N int | int64 | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return humanize.Comma(int64(n)) + " " + noun + "s"
}

// Verb chooses a verb's form: "1 dead letter waits", "2 dead letters wait".
func Verb[N int | int64 | uint64](n N, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
