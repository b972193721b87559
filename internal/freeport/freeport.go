// Package freeport gives tests ports of 127.0.0.1 that stay theirs while nobody
// listens there: a node that is down, or has not started yet, finds its port
// free. Every process has a block of ports to itself, so that tests of several
// packages can run side by side.
package freeport

import (
	"fmt"
	"net"
	"os"
	"sync"
)

// The blocks lie below the kernel's range for outgoing connections: from within
// it, any client could take a node's port while the node is down, even by
// connecting to itself.
const (
	lowest = 20_000
	size   = 200
	blocks = 60
)

// block is this process's own. Its lock is an abstract socket, which is known
// in one network namespace, as ports are, and ends with the process.
var block struct {
	sync.Mutex
	lock  net.Listener // nil before the first use
	first int          // port
	next  int          // offset, below size
}

// Row finds n ports in a row that nobody listens on and returns the first. They
// come again when the block has been gone through.
func Row(n int) (first int, err error) {
	block.Lock()
	defer block.Unlock()
	if block.lock == nil {
		if err := claim(); err != nil {
			return 0, err
		}
	}
	found := 0
	for range 2 * size {
		if block.next == size {
			block.next, found = 0, 0
		}
		port := block.first + block.next
		block.next++
		if found++; !free(port) {
			found = 0
		}
		if found == n {
			return port - n + 1, nil
		}
	}
	return 0, fmt.Errorf("no %d ports in a row are free from %d to %d", n, block.first, block.first+size-1)
}

// claim takes the first block from one on that depends on the process.
func claim() error {
	for i := range blocks {
		n := (os.Getpid() + i) % blocks
		lock, err := net.Listen("unix", fmt.Sprintf("@leasehold-test-ports-%d", n))
		if err == nil {
			block.lock, block.first = lock, lowest+n*size
			return nil
		}
	}
	return fmt.Errorf("all %d blocks of ports are taken", blocks)
}

func free(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	l.Close() // It was never used.
	return true
}
