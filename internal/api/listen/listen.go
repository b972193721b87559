// Package listen takes the port and the sockets of the HTTP API, bounds their connections and tells who is at the other
// end of each.
package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Check refuses an address that is not host:port, or that other machines could reach while there is no token to
// ask them for.
func Check(address string, hasToken bool) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not a host:port, like \"127.0.0.1:8222\"", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q has no port between 0 and 65535: %d", address, n)
	}
	if ip, err := netip.ParseAddr(host); !hasToken && host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return fmt.Errorf("%q can be reached from other machines and there is no http.token_file to protect it: set one, "+
			"or use \"127.0.0.1:%s\"", address, port)
	}
	return nil
}

// TCP takes the port of http.listen.
func TCP(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("http.listen: %s is already in use by another program; free it or change http.listen", address)
	}
	if err != nil {
		return nil, fmt.Errorf("http.listen: %w", err)
	}
	return l, nil
}

const (
	SocketMode   = 0o600 // Who may do everything is the node's own user, and root.
	ReadOnlyMode = 0o660 // Who may look is its group, too.
)

// ReadOnlySocket is the path of the socket that only shows state, beside the one for everything.
func ReadOnlySocket(path string) string { return strings.TrimSuffix(path, ".sock") + "-ro.sock" }

// Unix makes a socket, in place of one that a former life left behind.
func Unix(path string, mode os.FileMode) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	var l net.Listener
	err := withShortPath(path, func(short string) (err error) {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	// The short path is gone by the time the listener closes; Run removes the file by its own name.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, fmt.Errorf("set the mode of socket %s: %w", path, err)
	}
	return l, nil
}

// removeStale removes a socket without a listener.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at socket %s: %w", path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is not a socket; move it away, the agent's socket goes there", path)
	}
	if conn, err := DialUnix(path); err == nil {
		conn.Close()
		return fmt.Errorf("another agent answers on %s; two agents cannot share a data directory", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the socket of a previous run: %w", err)
	}
	return nil
}

// dialTimeout is ample for a socket or port of this machine.
const dialTimeout = 2 * time.Second

func DialUnix(path string) (conn net.Conn, err error) {
	err = withShortPath(path, func(short string) (err error) {
		conn, err = net.DialTimeout("unix", short, dialTimeout)
		return err
	})
	return conn, err
}

// maxSocketPath is what fits into sockaddr_un of Linux with its closing zero.
const maxSocketPath = 107

// withShortPath calls f with a path that means the same file as path and fits into a socket address: data directories
// may lie deep, so a path that is too long goes by way of an open descriptor of its directory.
func withShortPath(path string, f func(string) error) error {
	if len(path) <= maxSocketPath {
		return f(path)
	}
	// It may be a directory that cannot be listed.
	dir, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	return f(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
}
