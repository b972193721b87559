package devcluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// LockFile is the name of the lock in the directory of a cluster.
const LockFile = "dev.lock"

// ErrLocked means that another process holds the lock.
var ErrLocked = errors.New("another command is starting nodes")

// Lock locks a cluster's directory, which it creates if needed, until unlock is called or the process ends. Two
// commands that start nodes in one directory would overwrite each other's pid files, and no command would find the
// nodes of the first.
func Lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the cluster: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, LockFile), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the directory of the cluster: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w in %s", ErrLocked, dir)
	}
	return func() { f.Close() }, nil
}
