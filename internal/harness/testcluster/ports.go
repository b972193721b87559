package testcluster

import (
	"testing"

	"leasehold/internal/freeport"
)

// FreePorts finds ports of 127.0.0.1 that nobody listens on, all different.
func FreePorts(t testing.TB, n int) []int {
	t.Helper()
	first, err := freeport.Row(n)
	if err != nil {
		t.Fatal(err)
	}
	ports := make([]int, n)
	for i := range ports {
		ports[i] = first + i
	}
	return ports
}
