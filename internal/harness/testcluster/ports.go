package testcluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// Ports lie below the kernel's range for outgoing connections: from within it,
// any client could take a node's port while the node is down, even by
// connecting to itself.
const (
	lowestPort  = 20_000
	highestPort = 32_000
)

// FreePorts finds ports of 127.0.0.1 that nobody listens on, all different.
func FreePorts(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	for range 100 * n {
		if len(ports) == n {
			return ports
		}
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer l.Close() // at the end, so that no port is found twice
		ports = append(ports, port)
	}
	t.Fatalf("found only %d of %d free ports", len(ports), n)
	return nil
}
