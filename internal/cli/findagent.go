package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/config"
	"leasehold/internal/devcluster"
)

// localConfig is the config file that commands look for in the current directory.
const localConfig = config.FileName

// defaultHTTP is asked if nothing says where the agent is.
const defaultHTTP = "127.0.0.1:8222"

// answerLimit is how long a node of a dev cluster gets to show that it runs before the next one is asked.
const answerLimit = time.Second

// found is the agent that a command asks, and what named it.
type found struct {
	target string // As api.NewClient takes it.
	by     string // For people.
}

func (f found) String() string { return fmt.Sprintf("%s (%s)", f.target, f.by) }

// client finds the agent to ask.
func (a *App) client(cmd *cobra.Command) (*api.Client, error) {
	f, err := a.findAgent(cmd)
	if err != nil {
		return nil, err
	}
	a.asked = &f
	return a.nodeClient(f.target)
}

// findAgent goes from what the user says now to what is merely there: flags, the environment, the context in use, the
// current directory, this machine.
func (a *App) findAgent(cmd *cobra.Command) (found, error) {
	byAddr, byContext := changed(cmd, "addr"), changed(cmd, "context")
	switch {
	case byAddr && byContext:
		return found{}, usage("--addr and --context both name an agent; use only one")
	case byAddr:
		return found{a.addr, "--addr"}, checkAddr("--addr", a.addr)
	case byContext:
		return a.contextAgent(cmd, a.contextName, "--context")
	case changed(cmd, "config"):
		return a.configAgent(a.configPath)
	case a.addr != "":
		return found{a.addr, addrVariable}, checkAddr(addrVariable, a.addr)
	}
	name, by, err := currentContext()
	switch {
	case err != nil:
		return found{}, err
	case name != "":
		return a.contextAgent(cmd, name, by)
	}
	return a.localAgent(cmd.Context())
}

// changed reports whether a flag was given, and is false for a command that has no such flag.
func changed(cmd *cobra.Command, flag string) bool {
	f := cmd.Flag(flag)
	return f != nil && f.Changed
}

// localAgent finds an agent of this directory or machine.
func (a *App) localAgent(ctx context.Context) (found, error) {
	if n, ok := a.runningDevNode(ctx); ok {
		return found{shortPath(n.Socket()), "a node of " + devcluster.DefaultDir}, nil
	}
	if path := a.machineConfig(); path != "" {
		return a.configAgent(path)
	}
	return found{defaultHTTP, "the default: there is no config in this directory or at " + defaultConfig}, nil
}

func (a *App) configAgent(path string) (found, error) {
	c, err := config.Load(path)
	if err != nil {
		return found{}, a.configError(err)
	}
	return found{shortPath(c.SocketPath()), "data_dir of " + path}, nil
}

// runningDevNode returns the first node of ./leasehold-dev that answers.
func (a *App) runningDevNode(ctx context.Context) (devcluster.Node, bool) {
	for _, n := range a.localDevNodes() {
		ctx, cancel := context.WithTimeout(ctx, answerLimit)
		_, err := api.NewClient(n.Socket()).Ready(ctx)
		cancel()
		if !errors.Is(err, api.ErrUnreachable) {
			return n, true
		}
	}
	return devcluster.Node{}, false
}

func (a *App) localDevNodes() []devcluster.Node {
	if !a.trusted(devcluster.DefaultDir) {
		return nil
	}
	nodes, err := devNodes(devcluster.DefaultDir)
	if err != nil {
		return nil // There is none.
	}
	return nodes
}

// machineConfig is the config file of this directory, else of this machine; empty if there is none.
func (a *App) machineConfig() string {
	if isConfig(localConfig) && a.trusted(localConfig) {
		return localConfig
	}
	if _, err := os.Stat(defaultConfig); !errors.Is(err, fs.ErrNotExist) {
		return defaultConfig // Also one that cannot be read: the reason is worth an error.
	}
	return ""
}

// findConfig is the config file that a command reads which does not run the node: that of a running node of
// ./leasehold-dev, else of this directory, else of a node of ./leasehold-dev that does not run, else of this machine.
func (a *App) findConfig(cmd *cobra.Command) string {
	if changed(cmd, "config") {
		return a.configPath
	}
	if n, ok := a.runningDevNode(cmd.Context()); ok {
		return shortPath(n.Config())
	}
	path := a.machineConfig()
	if nodes := a.localDevNodes(); len(nodes) > 0 && path != localConfig {
		return shortPath(nodes[0].Config())
	}
	return cmp.Or(path, a.configPath)
}

// isConfig tells a node's config from another program's file of that name: every node has a name. A broken one counts,
// so that its faults are shown instead of another agent being asked.
func isConfig(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrPermission) {
		return true
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "[node]" || strings.HasPrefix(line, "[node] ") ||
			strings.HasPrefix(line, "node.name") {
			return true
		}
	}
	return false
}

// trusted reports whether what lies in the current directory may say whom to ask and what to run. What is passed over
// is remembered for an error.
func (a *App) trusted(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	if mayChoose(info, os.Geteuid()) {
		return true
	}
	a.passedOver = path + " belongs to another user and was not used; to use it, name it with --config or --addr"
	return false
}

// mayChoose reports whether a file may choose for a user: it is their own or root's. A user who can leave a
// file in a shared directory must not choose for its other users.
func mayChoose(file fs.FileInfo, euid int) bool {
	stat, ok := file.Sys().(*syscall.Stat_t)
	return ok && (int(stat.Uid) == euid || stat.Uid == 0)
}

// checkAddr refuses what cannot be the address of an agent. where is the flag, variable or file that holds it.
func checkAddr(where, addr string) error {
	const forms = "must be host:port, https://host:port, or the path of a socket"
	if addr == "" {
		return usage("%s is empty: it %s", where, forms)
	}
	if api.IsSocket(addr) {
		return nil
	}
	if u, err := url.Parse(addr); err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
		return nil
	}
	if host, port, err := net.SplitHostPort(addr); err == nil && host != "" && port != "" && !strings.Contains(addr, "/") {
		return nil
	}
	return usage("%s %q %s", where, addr, forms)
}

// shortPath is a path from the current directory if it lies there, else the whole path.
func shortPath(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(here, path)
	if err != nil || !filepath.IsLocal(rel) {
		return path
	}
	return rel
}
