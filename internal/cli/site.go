package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"leasehold/internal/config"
)

// site is a cluster that config files are written for: one directory a node, to be copied there as it is.
type site struct {
	cluster string
	nodes   []siteNode
	secret  string
	extra   string // Text of topics and groups, the same on every node but for its placeholders.
}

// siteNode is what differs between the nodes. Empty fields are left to the defaults.
type siteNode struct {
	name       string
	address    string // host:port of the cluster listener.
	dataDir    string
	listen     string // server.listen
	httpListen string
}

// Names in a node's directory.
const (
	configFile = "config.toml"
	secretFile = "cluster_secret"
)

// text is the config file of one node.
func (s site) text(n siteNode) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Node %s of cluster %s. config.example.toml has every key; `leasehold config validate` checks this file.\n", n.name, s.cluster)
	fmt.Fprintf(&b, "[node]\nname = %q\ndata_dir = %q\n", n.name, n.dataDir)
	if n.listen != "" {
		fmt.Fprintf(&b, "\n[server]\nlisten = %q\n", n.listen)
	}
	if n.httpListen != "" {
		fmt.Fprintf(&b, "\n[http]\nlisten = %q\n", n.httpListen)
	}
	fmt.Fprintf(&b, "\n[cluster]\nname = %q\nnodes = [", s.cluster)
	for i, other := range s.nodes {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", other.name+"="+other.address)
	}
	fmt.Fprintf(&b, "]\nsecret_file = %q\n", secretFile)
	if s.extra != "" {
		b.WriteString("\n" + strings.TrimSpace(strings.ReplaceAll(s.extra, "{{node}}", n.name)) + "\n")
	}
	return b.String()
}

// write makes DIR/NODE/config.toml and DIR/NODE/cluster_secret for every node.
func (s site) write(dir string) error {
	for _, n := range s.nodes {
		nodeDir := filepath.Join(dir, n.name)
		if err := os.MkdirAll(nodeDir, 0o700); err != nil {
			return fmt.Errorf("make the directory of node %s: %w", n.name, err)
		}
		if err := os.WriteFile(filepath.Join(nodeDir, configFile), []byte(s.text(n)), 0o640); err != nil {
			return fmt.Errorf("write the config of node %s: %w", n.name, err)
		}
		if err := os.WriteFile(filepath.Join(nodeDir, secretFile), []byte(s.secret), 0o600); err != nil {
			return fmt.Errorf("write the secret of node %s: %w", n.name, err)
		}
	}
	return nil
}

// check finds faults before write replaces anything.
func (s site) check(dir string) error {
	if len(s.nodes) == 0 {
		return usage("a cluster has nodes")
	}
	for _, n := range s.nodes {
		if _, err := config.Parse(filepath.Join(dir, n.name, configFile), s.text(n)); err != nil {
			return err
		}
	}
	return nil
}

// existing returns the first file that write would replace, or nothing.
func (s site) existing(dir string) (string, error) {
	for _, n := range s.nodes {
		for _, file := range []string{configFile, secretFile} {
			path := filepath.Join(dir, n.name, file)
			_, err := os.Lstat(path)
			switch {
			case err == nil:
				return path, nil
			case !errors.Is(err, fs.ErrNotExist):
				return "", err
			}
		}
	}
	return "", nil
}
