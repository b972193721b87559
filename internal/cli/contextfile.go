package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"

	"leasehold/internal/smallfile"
)

// contextVariable is the environment's --context.
const contextVariable = "LEASEHOLD_CONTEXT"

// agentContext is an agent as it is saved under a name. Paths are absolute.
type agentContext struct {
	Addr      string `toml:"addr" json:"addr"`
	TokenFile string `toml:"token_file,omitempty" json:"token_file,omitempty"`
	TLSCA     string `toml:"tls_ca,omitempty" json:"tls_ca,omitempty"`
}

// Names in leasehold's part of the user's configuration directory.
const (
	contextDir     = "context" // NAME.toml of each context.
	contextExt     = ".toml"
	currentFile    = "context.txt" // The name of the context in use.
	contextNameMax = "1 to 64 letters, digits, '.', '-' or '_', and begin with a letter or digit"
)

var validContext = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// contextPath finds a file of leasehold's in the user's configuration directory.
func contextPath(parts ...string) (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", failure(exitFailed, "set HOME or XDG_CONFIG_HOME", "find your configuration directory: %w", err)
	}
	return filepath.Join(append([]string{dir, "leasehold"}, parts...)...), nil
}

func contextFile(name string) (string, error) {
	if !validContext.MatchString(name) {
		return "", usage("%q is not a valid context name: it must be %s", name, contextNameMax)
	}
	return contextPath(contextDir, name+contextExt)
}

// currentContext is the context in use, and what says so; empty if there is none.
func currentContext() (name, by string, err error) {
	if name := os.Getenv(contextVariable); name != "" {
		return name, contextVariable, nil
	}
	path, err := contextPath(currentFile)
	if err != nil {
		return "", "", nil // Without a configuration directory, as in a service, nothing was ever saved.
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("read which context is in use: %w", err)
	}
	return strings.TrimSpace(string(text)), path, nil
}

// useContext makes a context the one in use, or none if name is empty.
func useContext(name string) error {
	path, err := contextPath(currentFile)
	if err != nil {
		return err
	}
	if name != "" {
		return replaceFile(path, []byte(name+"\n"))
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unselect the context: %w", err)
	}
	return nil
}

func readContext(name string) (agentContext, error) {
	var c agentContext
	path, err := contextFile(name)
	if err != nil {
		return c, err
	}
	meta, err := toml.DecodeFile(path, &c)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c, failure(exitNotFound, "`leasehold context list` lists them; `leasehold context unselect` uses none",
			"there is no context %q", name)
	case err != nil:
		return c, failure(exitUsage, "fix the file, or save it again with `leasehold context add "+name+" --replace`",
			"read context %s: %s: %w", name, path, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return c, failure(exitUsage, "remove the key", "read context %s: %s: unknown key %q", name, path, unknown[0])
	}
	return c, checkAddr(path+": addr", c.Addr)
}

func writeContext(name string, c agentContext, replace bool) error {
	path, err := contextFile(name)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil && !replace {
		return failure(exitFailed, "add --replace, or choose another name", "context %q exists already", name)
	}
	var text bytes.Buffer
	if err := toml.NewEncoder(&text).Encode(c); err != nil {
		return fmt.Errorf("encode context %s: %w", name, err)
	}
	return replaceFile(path, text.Bytes())
}

// replaceFile writes a file as a whole or not at all, so that a command that reads it meanwhile sees one or the other.
func replaceFile(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return writeError("XDG_CONFIG_HOME", fmt.Errorf("make the directory of %s: %w", path, err))
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // Mode 0600.
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err = smallfile.WriteSynced(f, text); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func removeContext(name string) error {
	path, err := contextFile(name)
	if err != nil {
		return err
	}
	err = os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return failure(exitNotFound, "`leasehold context list` lists them", "there is no context %q", name)
	}
	if err != nil {
		return fmt.Errorf("remove context %s: %w", name, err)
	}
	if current, by, _ := currentContext(); current == name && by != contextVariable {
		return useContext("")
	}
	return nil
}

func listContexts() ([]contextRow, error) {
	dir, err := contextPath(contextDir)
	if err != nil {
		return nil, err
	}
	files, err := os.ReadDir(dir) // Sorted.
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list contexts: %w", err)
	}
	current, _, err := currentContext()
	if err != nil {
		return nil, err
	}
	list := []contextRow{}
	for _, f := range files {
		name, isContext := strings.CutSuffix(f.Name(), contextExt)
		if !isContext || !validContext.MatchString(name) {
			continue
		}
		c, err := readContext(name)
		if err != nil {
			return nil, err
		}
		list = append(list, contextRow{Name: name, Current: name == current, agentContext: c})
	}
	return list, nil
}
