package testcluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// Serve runs a program beside the nodes until the test ends.
func (c *Cluster) Serve(program string, args ...string) *process {
	c.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	p, err := startProcess(cmd)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(p.kill)
	return p
}

// LetServe adds the user that may answer the requests of these groups. It is
// for before the nodes start.
func (c *Cluster) LetServe(user, password string, groups ...string) {
	c.t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		c.t.Fatal(err)
	}
	file := filepath.Join(c.Dir, user+".hash")
	c.write(file, string(hash)+"\n")
	var names []string
	for _, g := range groups {
		names = append(names, fmt.Sprintf("%q", g))
	}
	c.spec.Users += fmt.Sprintf("[[user]]\nname = %q\npassword_file = %q\nserve = [%s]\n", user, file, strings.Join(names, ", "))
	c.writeConfigs()
}

// freeAddress is a loopback address for a service.
func (c *Cluster) freeAddress() string { return fmt.Sprintf("127.0.0.1:%d", freePorts(c.t, 1)[0]) }
