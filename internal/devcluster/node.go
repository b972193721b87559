// Package devcluster runs the nodes of `leasehold dev`: agents on this machine, each a process of this binary with a
// directory of its own. It starts, finds and stops them; what they run is in their config files.
package devcluster

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"leasehold/internal/config"
)

// Node is one node of a `dev` cluster: a directory that holds all of it. A node's process is known only by the pid
// file there, so that every command sees the same, whichever command started it.
type Node struct {
	Name string
	Dir  string // Absolute.
}

// DefaultDir is where `leasehold dev` and `agent --dev` keep their nodes unless told otherwise.
const DefaultDir = "./leasehold-dev"

// Names in a node's directory.
const (
	LogName = "log"
	pidName = "pid"
)

// Config is the path of the node's config file.
func (n Node) Config() string { return filepath.Join(n.Dir, config.FileName) }

// LogFile is the file that takes the node's output.
func (n Node) LogFile() string { return filepath.Join(n.Dir, LogName) }

// PIDFile is the file with the id of the node's process.
func (n Node) PIDFile() string { return filepath.Join(n.Dir, pidName) }

// Socket is where the node answers, also if its config was edited.
func (n Node) Socket() string {
	if c, err := config.Load(n.Config()); err == nil {
		return c.SocketPath()
	}
	return filepath.Join(n.Dir, "data", config.SocketName)
}

// Nodes finds the nodes in a directory; there may be none.
func Nodes(dir string) ([]Node, error) {
	configs, err := filepath.Glob(filepath.Join(globQuote(dir), "n*", config.FileName))
	if err != nil {
		return nil, err
	}
	var nodes []Node
	for _, c := range configs {
		nodes = append(nodes, Node{Name: filepath.Base(filepath.Dir(c)), Dir: filepath.Dir(c)})
	}
	return nodes, nil
}

// globQuote makes a path match itself only.
func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// tailLines is how much of a log explains why its node ended.
const tailLines = 8

// LogTail returns the last lines of the node's log.
func (n Node) LogTail() string {
	text, err := os.ReadFile(n.LogFile())
	if errors.Is(err, fs.ErrNotExist) {
		return "(no log)"
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-tailLines):], []byte("\n")))
}
