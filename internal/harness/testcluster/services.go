package testcluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// runBeside runs a program beside the nodes until the test ends.
func (c *Cluster) runBeside(program string, args ...string) *process {
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

// letServe adds the user that may answer the requests of these groups. It is
// for before the nodes start.
func (c *Cluster) letServe(user, password string, groups ...string) {
	c.t.Helper()
	file := c.passwordFile(user, password)
	var names []string
	for _, g := range groups {
		names = append(names, fmt.Sprintf("%q", g))
	}
	c.spec.Users += fmt.Sprintf("[[user]]\nname = %q\npassword_file = %q\nserve = [%s]\n", user, file, strings.Join(names, ", "))
	c.writeConfigs()
}

// freeAddress is a loopback address for a service.
func (c *Cluster) freeAddress() string { return fmt.Sprintf("127.0.0.1:%d", freePorts(c.t, 1)[0]) }

// loadUser publishes to all topics where listeners are open to the network.
const loadUser, loadPassword = "load", "password-of-the-load"

// makeCredentials makes what the config wants of listeners that the network
// reaches: a user for the load, and a token for questions.
func (c *Cluster) makeCredentials() {
	c.t.Helper()
	c.token = strings.Repeat("0123456789abcdef", 4)
	open := slices.ContainsFunc(c.Nodes, func(n *Node) bool { return !n.host.loopback() })
	if !open {
		return
	}
	c.write(c.tokenFile(), c.token+"\n")
	var topics []string
	for _, t := range c.spec.Topics {
		topics = append(topics, fmt.Sprintf("%q", t.Name))
	}
	c.spec.Users += fmt.Sprintf("[[user]]\nname = %q\npassword_file = %q\npublish = [%s]\n",
		loadUser, c.passwordFile(loadUser, loadPassword), strings.Join(topics, ", "))
}

func (c *Cluster) passwordFile(user, password string) string {
	c.t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		c.t.Fatal(err)
	}
	file := filepath.Join(c.Dir, user+".hash")
	c.write(file, string(hash)+"\n")
	return file
}

func (c *Cluster) tokenFile() string { return filepath.Join(c.Dir, "http_token") }

// tokenLine is the line of the node's [http] table that asks for the token.
func (c *Cluster) tokenLine(n *Node) string {
	if n.host.loopback() {
		return ""
	}
	return fmt.Sprintf("token_file = %q", c.tokenFile())
}

// login is what stands before the address in the node's client URL.
func (n *Node) login() string {
	if n.host.loopback() {
		return ""
	}
	return loadUser + ":" + loadPassword + "@"
}
