package devcluster

import (
	"fmt"
	"os/exec"
	"sync"
	"testing"
)

// TestANodeThatHasJustStartedRuns: the kernel shows a process's arguments a moment after the start of its program. Many
// starts at once make the moment long enough to be seen.
func TestANodeThatHasJustStartedRuns(t *testing.T) {
	var starters sync.WaitGroup
	for range 8 {
		n := Node{Name: "n1", Dir: t.TempDir()}
		starters.Go(func() {
			for range 40 {
				if err := startAndLook(n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	starters.Wait()
}

func startAndLook(n Node) error {
	cmd := exec.Command("sh", "-c", "read line", "agent", n.Config())
	stdin, err := cmd.StdinPipe() // Never written: the process stays until it is killed.
	if err != nil {
		return err
	}
	defer stdin.Close()
	if err := n.start(cmd); err != nil {
		return err
	}
	pid, alive := n.PID()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	_, dead := n.PID()
	if !alive || dead {
		return fmt.Errorf("process %d: runs %v, and after its end %v", pid, alive, dead)
	}
	return nil
}
