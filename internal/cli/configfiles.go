package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"leasehold/internal/config"
	"leasehold/internal/smallfile"
)

// site is a cluster that config files are written for: a directory for each node, to be copied there as it is, or one
// node on its own.
type site struct {
	cluster string
	nodes   []siteNode
	secret  string // For nodes that have none.
	extra   string // Text of topics and groups, the same on every node but for its placeholders.
}

// siteNode is what differs between the nodes. Empty fields are left to the defaults.
type siteNode struct {
	name       string
	subdir     string // Of its files, in the directory of the site.
	address    string // host:port of the cluster listener.
	dataDir    string
	listen     string // server.listen
	httpListen string
}

// secretFile is the name of the secret in a node's directory.
const secretFile = "cluster_secret"

// text is the config file of one node.
func (s site) text(n siteNode) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Node %s of cluster %s. config.example.toml has every key; `leasehold config validate` checks "+
		"this file.\n", n.name, s.cluster)
	fmt.Fprintf(&b, "[node]\nname = %q\ndata_dir = %q\n", n.name, n.dataDir)
	if n.listen != "" {
		fmt.Fprintf(&b, "\n[server]\nlisten = %q\n", n.listen)
	}
	if n.httpListen != "" {
		fmt.Fprintf(&b, "\n[http]\nlisten = %q\n", n.httpListen)
	}
	fmt.Fprintf(&b, "\n[cluster]\nname = %q\n", s.cluster)
	if !s.alone() {
		s.writeNodes(&b)
	}
	if s.extra != "" {
		b.WriteString("\n" + strings.TrimSpace(strings.ReplaceAll(s.extra, "{{node}}", n.name)) + "\n")
	}
	return b.String()
}

// alone reports whether the site is one node in single mode.
func (s site) alone() bool { return len(s.nodes) == 1 }

func (s site) writeNodes(b *strings.Builder) {
	b.WriteString("nodes = [")
	for i, other := range s.nodes {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(b, "%q", other.name+"="+other.address)
	}
	fmt.Fprintf(b, "]\nsecret_file = %q\n", secretFile)
}

// linesBefore is how many lines of a config come before the topics, and how many empty ones are left out at their head.
func (s site) linesBefore() (before, blank int) {
	head := s
	head.extra = ""
	trimmed := strings.TrimLeft(s.extra, " \t\r\n")
	return strings.Count(head.text(s.nodes[0]), "\n") + 1, strings.Count(s.extra[:len(s.extra)-len(trimmed)], "\n")
}

// dir is where a node's files go: a directory each, and OUT itself for a node on its own.
func (s site) dir(out string, n siteNode) string { return filepath.Join(out, n.subdir) }

// write makes config.toml and cluster_secret of every node.
func (s site) write(out string) error {
	for _, n := range s.nodes {
		if err := s.writeConfig(out, n); err != nil {
			return err
		}
	}
	return s.writeMissingSecrets(out)
}

func (s site) writeConfig(out string, n siteNode) error {
	dir := s.dir(out, n)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of node %s: %w", n.name, err)
	}
	if err := storeFile(filepath.Join(dir, config.FileName), s.text(n), 0o640); err != nil {
		return fmt.Errorf("write the config of node %s: %w", n.name, err)
	}
	return nil
}

// writeMissingSecrets gives the cluster's secret to each node that has none: the one that others have already, else
// that of the site. A node on its own needs none.
func (s site) writeMissingSecrets(out string) error {
	if s.alone() {
		return nil
	}
	secret := s.secret
	var missing []siteNode
	for _, n := range s.nodes {
		text, err := os.ReadFile(filepath.Join(s.dir(out, n), secretFile))
		switch {
		case err == nil:
			secret = string(text)
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, n)
		default:
			return err
		}
	}
	for _, n := range missing {
		if err := os.MkdirAll(s.dir(out, n), 0o700); err != nil {
			return fmt.Errorf("make the directory of node %s: %w", n.name, err)
		}
		if err := storeFile(filepath.Join(s.dir(out, n), secretFile), secret, 0o600); err != nil {
			return fmt.Errorf("write the secret of node %s: %w", n.name, err)
		}
	}
	return nil
}

// storeFile makes or replaces a file, and returns when its content is on the disk.
func storeFile(path, text string, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	return smallfile.WriteSynced(f, []byte(text))
}

// check finds faults before write replaces anything.
func (s site) check(dir string) error {
	for _, n := range s.nodes {
		if _, err := config.Parse(filepath.Join(s.dir(dir, n), config.FileName), s.text(n)); err != nil {
			return err
		}
	}
	return nil
}

// existing returns the first file that write would replace, or nothing.
func (s site) existing(dir string) (string, error) {
	for _, n := range s.nodes {
		for _, file := range []string{config.FileName, secretFile} {
			path := filepath.Join(s.dir(dir, n), file)
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
