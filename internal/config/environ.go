package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"leasehold/server"
	"leasehold/server/datadir"
)

// Check is one line of the check list that `leasehold config validate` prints.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"` // What is wrong, or a warning, or what was found.

	Taken string `json:"-"` // Address that another process listens at, if that is what is wrong.
}

// CheckEnvironment looks at what the config needs from this machine. ctx bounds the look-ups of names.
func (c *Config) CheckEnvironment(ctx context.Context) []Check {
	checks := []Check{c.checkDataDir()}
	if c.Mode() == datadir.Cluster {
		checks = append(checks, c.checkClusterAddress(ctx))
	}
	if c.Cluster.SecretFile != "" {
		checks = append(checks, c.checkSecret())
	}
	checks = append(checks, c.checkKeys()...)
	checks = append(checks, checkFree("server.listen free", c.Server.Listen), checkFree("http.listen free", c.HTTP.Listen))
	for _, g := range c.Groups {
		checks = append(checks, checkHandler(g)...)
	}
	return checks
}

func result(name, detail string, err error) Check {
	if err != nil {
		return Check{Name: name, Detail: err.Error()}
	}
	return Check{Name: name, OK: true, Detail: detail}
}

func (c *Config) checkDataDir() Check {
	return result("data directory", c.Node.DataDir, canMake(c.Node.DataDir))
}

// canMake looks for the nearest directory that exists and asks whether this user may write there.
func canMake(dir string) error {
	for path := dir; ; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) && path != filepath.Dir(path) {
			continue
		}
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", path)
		}
		const writable = 0x2 // W_OK of access(2).
		if err := syscall.Access(path, writable); err != nil {
			return fmt.Errorf("cannot write to %s: %w", path, err)
		}
		return nil
	}
}

func (c *Config) checkSecret() Check {
	s, err := c.ReadSecrets()
	return warned(result("secret", s.Path, plainFault(err)), s.Warnings)
}

// checkClusterAddress looks whether the cluster's port is free, and whether others can reach it.
func (c *Config) checkClusterAddress(ctx context.Context) Check {
	check := checkFree("cluster address free", c.ClusterListen())
	if !check.OK || c.Cluster.Advertise != "" {
		return check
	}
	if text := server.CheckRoutes(ctx, net.DefaultResolver, c.Node.Name, c.Peers()); text != "" {
		return warned(check, []string{text})
	}
	return check
}

// checkFree takes the port for a moment.
func checkFree(name, address string) Check {
	l, err := net.Listen("tcp", address)
	if err == nil {
		l.Close()
		return Check{Name: name, OK: true, Detail: address}
	}
	check := Check{Name: name, Detail: err.Error()}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		check.Detail, check.Taken = address+" is in use", address
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		check.Detail = address + " is not an address of this machine"
	}
	return check
}
