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

// RunBeside runs a program beside the nodes until the test ends.
func (c *Cluster) RunBeside(program string, args ...string) *Process {
	c.T.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	p, err := StartProcess(cmd)
	if err != nil {
		c.T.Fatal(err)
	}
	c.T.Cleanup(p.Kill)
	return p
}

// LetServe adds the user that may answer the requests of these groups. It is
// for before the nodes start.
func (c *Cluster) LetServe(user, password string, groups ...string) {
	c.T.Helper()
	file := c.passwordFile(user, password)
	var names []string
	for _, g := range groups {
		names = append(names, fmt.Sprintf("%q", g))
	}
	c.Spec.Users += fmt.Sprintf("[[user]]\nname = %q\npassword_file = %q\nserve = [%s]\n", user, file,
		strings.Join(names, ", "))
	c.writeConfigs()
}

// FreeAddress is a loopback address for a service.
func (c *Cluster) FreeAddress() string { return fmt.Sprintf("127.0.0.1:%d", FreePorts(c.T, 1)[0]) }

// loadUser publishes to all topics where listeners are open to the network.
const loadUser, loadPassword = "load", "password-of-the-load"

// makeCredentials makes what the config wants of listeners that the network
// reaches: a user for the load, and a token for questions.
func (c *Cluster) makeCredentials() {
	c.T.Helper()
	c.token = strings.Repeat("0123456789abcdef", 4)
	open := slices.ContainsFunc(c.Nodes, func(n *Node) bool { return !n.Host.loopback() })
	if !open {
		return
	}
	c.Write(c.tokenFile(), c.token+"\n")
	var topics []string
	for _, t := range c.Spec.Topics {
		topics = append(topics, fmt.Sprintf("%q", t.Name))
	}
	c.Spec.Users += fmt.Sprintf("[[user]]\nname = %q\npassword_file = %q\npublish = [%s]\n",
		loadUser, c.passwordFile(loadUser, loadPassword), strings.Join(topics, ", "))
}

func (c *Cluster) passwordFile(user, password string) string {
	c.T.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		c.T.Fatal(err)
	}
	file := filepath.Join(c.Dir, user+".hash")
	c.Write(file, string(hash)+"\n")
	return file
}

func (c *Cluster) tokenFile() string { return filepath.Join(c.Dir, "http_token") }

// tokenLine is the line of the node's [http] table that asks for the token.
func (c *Cluster) tokenLine(n *Node) string {
	if n.Host.loopback() {
		return ""
	}
	return fmt.Sprintf("token_file = %q", c.tokenFile())
}

// login is what stands before the address in the node's client URL.
func (n *Node) login() string {
	if n.Host.loopback() {
		return ""
	}
	return loadUser + ":" + loadPassword + "@"
}

// BackendHandler is the inline table of a group whose children are backends, with a variable NAME=value in their
// environment if there is one.
func (c *Cluster) BackendHandler(processes int, variable string) string {
	c.T.Helper()
	c.makeCallDir()
	env := ""
	if name, value, set := strings.Cut(variable, "="); set {
		env = fmt.Sprintf("%s = %q", name, value)
	}
	return fmt.Sprintf(`{ kind = "subprocess", command = [%q, "told", "subprocess", %q], processes = %d, env = { %s } }`,
		HandlerBinary(c.T), c.CallDir(), processes, env)
}

func (c *Cluster) makeCallDir() {
	c.T.Helper()
	if err := os.MkdirAll(c.CallDir(), 0o755); err != nil {
		c.T.Fatal(err)
	}
}

// Serve runs a backend beside the nodes until it is killed or the test ends.
func (c *Cluster) Serve(args ...string) *Process {
	c.T.Helper()
	c.makeCallDir()
	return c.RunBeside(HandlerBinary(c.T), append([]string{"told"}, args...)...)
}

// AnswerAll has the backends answer every call of the group so from now on, or as its message says if the answer is
// empty.
func (c *Cluster) AnswerAll(group, say string) {
	c.T.Helper()
	name := filepath.Join(c.CallDir(), group+".say")
	c.Write(name+".new", say)
	if err := os.Rename(name+".new", name); err != nil { // At once: a backend must not read half of it.
		c.T.Fatal(err)
	}
}
