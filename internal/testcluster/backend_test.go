package testcluster

import (
	"os"
	"os/exec"
	"path/filepath"
)

// serve runs a backend beside the nodes until it is killed or the test ends.
func (c *Cluster) serve(args ...string) *process {
	c.t.Helper()
	cmd := exec.Command(Backend(c.t), args...)
	cmd.Stderr = os.Stderr
	p, err := startProcess(cmd)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(p.kill)
	return p
}

// answerAll has the backends answer every call of the group so from now on, or as its message says if the answer is empty.
func (c *Cluster) answerAll(group, say string) {
	c.t.Helper()
	name := filepath.Join(c.callDir(), group+".say")
	c.write(name+".new", say)
	if err := os.Rename(name+".new", name); err != nil { // At once: a backend must not read half of it.
		c.t.Fatal(err)
	}
}
