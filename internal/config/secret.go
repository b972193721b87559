package config

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"leasehold/internal/smallfile"
)

// secretBytes is the length of a cluster secret: too long to be guessed, or typed by hand.
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

// SecretPath is where cluster.secret_file is.
func (c *Config) SecretPath() string { return c.credential(c.Cluster.SecretFile) }

// credential finds a file with something secret: a relative name is looked for among systemd's credentials first, then
// beside the config file.
func (c *Config) credential(name string) string {
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

// ReadSecrets reads the secret file; a node in single mode may have none. A fault is an *Error, as if it stood in the
// config.
func (c *Config) ReadSecrets() (Secrets, error) {
	s := Secrets{Path: c.SecretPath()}
	if s.Path == "" {
		return s, nil
	}
	text, err := smallfile.Read(s.Path, smallfile.Most)
	if err != nil {
		return s, c.secretFault("%s",
			fileFault(err, "put the cluster's secret there, the same on every node (`leasehold init` makes one)"))
	}
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		key, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil || len(key) != secretBytes {
			return s, c.secretFault("line %d of %s is not %d hexadecimal characters; `leasehold init` makes a secret, or: "+
				"openssl rand -hex %d",
				i+1, s.Path, 2*secretBytes, secretBytes)
		}
		s.Keys = append(s.Keys, key)
	}
	if len(s.Keys) > 2 {
		return s, c.secretFault("%s holds %d secrets; expected one, or two while it is being changed", s.Path, len(s.Keys))
	}
	s.Warnings = modeWarnings("cluster.secret_file", s.Path)
	return s, nil
}

func (c *Config) secretFault(format string, args ...any) error {
	return &Error{File: c.path, Faults: []Fault{{Message: "cluster.secret_file: " + fmt.Sprintf(format, args...)}}}
}

// modeWarnings looks at who else can read a secret.
func modeWarnings(key, path string) []string {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s: %s can be read by other users (mode %04o); run: chmod 600 %s",
		key, path, info.Mode().Perm(), path)}
}

// NewSecret makes a secret in the form that a secret file holds.
func NewSecret() string {
	key := make([]byte, secretBytes)
	rand.Read(key) // Never fails: crypto/rand ends the process rather than return less than it was asked for.
	return hex.EncodeToString(key) + "\n"
}
