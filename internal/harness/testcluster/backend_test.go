package testcluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// backendHandler is the inline table of a group whose children are backends, with a variable NAME=value in their
// environment if there is one.
func (c *Cluster) backendHandler(processes int, variable string) string {
	c.t.Helper()
	c.makeCallDir()
	env := ""
	if name, value, set := strings.Cut(variable, "="); set {
		env = fmt.Sprintf("%s = %q", name, value)
	}
	return fmt.Sprintf(`{ kind = "subprocess", command = [%q, "subprocess", %q], processes = %d, env = { %s } }`,
		backendBinary(c.t), c.callDir(), processes, env)
}

func (c *Cluster) makeCallDir() {
	c.t.Helper()
	if err := os.MkdirAll(c.callDir(), 0o755); err != nil {
		c.t.Fatal(err)
	}
}

// serve runs a backend beside the nodes until it is killed or the test ends.
func (c *Cluster) serve(args ...string) *process {
	c.t.Helper()
	c.makeCallDir()
	return c.runBeside(backendBinary(c.t), args...)
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
