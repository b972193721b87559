package config

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// secretBytes is the length of a cluster secret: too long to be typed by a person or guessed.
const secretBytes = 32

// Secrets are the cluster's secret and, while it is being changed, the one before it.
type Secrets struct {
	Path     string
	Keys     [][]byte // The first makes certificates, all are accepted.
	Warnings []string
}

// String keeps the keys out of logs.
func (s Secrets) String() string { return fmt.Sprintf("%d secrets from %s", len(s.Keys), s.Path) }

// GoString keeps the keys out of logs printed with %#v.
func (s Secrets) GoString() string { return s.String() }

// SecretPath is where cluster.secret_file is: a relative name is looked for among systemd's credentials first, then
// beside the config file.
func (c *Config) SecretPath() string {
	name := c.Cluster.SecretFile
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && name != "" && !filepath.IsAbs(name) {
		if path := filepath.Join(dir, name); fileExists(path) {
			return path
		}
	}
	return c.resolve(name)
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// ReadSecrets reads the secret file; in single mode there is none to read. A fault is an *Error, as if it stood in the
// config.
func (c *Config) ReadSecrets() (Secrets, error) {
	s := Secrets{Path: c.SecretPath()}
	if len(c.Cluster.Nodes) == 0 {
		return s, nil
	}
	text, err := os.ReadFile(s.Path)
	if err != nil {
		return s, c.secretFault("%s", readFault(err))
	}
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		key, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil || len(key) != secretBytes {
			return s, c.secretFault("line %d of %s is not %d hexadecimal characters; `leasehold init` makes a secret, or: openssl rand -hex %d",
				i+1, s.Path, 2*secretBytes, secretBytes)
		}
		s.Keys = append(s.Keys, key)
	}
	if len(s.Keys) > 2 {
		return s, c.secretFault("%s holds %d secrets; there is one, and during a change the one before it on a second line", s.Path, len(s.Keys))
	}
	s.Warnings = modeWarnings(s.Path)
	return s, nil
}

func (c *Config) secretFault(format string, args ...any) error {
	return &Error{File: c.path, Faults: []Fault{{Message: "cluster.secret_file: " + fmt.Sprintf(format, args...)}}}
}

func readFault(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return err.Error() + "; put the cluster's secret there, the same on every node (`leasehold init` makes one)"
	case errors.Is(err, fs.ErrPermission):
		return err.Error() + "; the user that runs the agent must be able to read it"
	}
	return err.Error()
}

// modeWarnings looks at who else can read the secret: whoever has it can join the cluster.
func modeWarnings(path string) []string {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return []string{fmt.Sprintf("cluster.secret_file: %s can be read by other users (mode %04o); run: chmod 600 %s", path, info.Mode().Perm(), path)}
}

// NewSecret makes a secret in the form that a secret file holds.
func NewSecret() string {
	key := make([]byte, secretBytes)
	rand.Read(key) // Never fails: crypto/rand ends the process rather than return less than it was asked for.
	return hex.EncodeToString(key) + "\n"
}
