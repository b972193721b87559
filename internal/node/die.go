package node

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lastWord is what the line that says why the process dies gets to be written: small beside half a margin, after which
// another node may own the partition.
const lastWord = 20 * time.Millisecond

// die ends the process where it stands, and its children with it: they are killed by the kernel when it is gone. It is
// for a lane that will not stop though another node may own its partition in a moment. Nothing on the way may wait for
// long, not even for the lock of a log.
func (n *Node) die(reason string) {
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		n.log.Error("ending the process", "reason", reason)
		n.Log.Flush(lastWord)
	}()
	select {
	case <-logged:
	case <-time.After(lastWord):
	}
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	time.Sleep(time.Minute) // not reached
}
