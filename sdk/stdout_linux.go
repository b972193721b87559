package sdk

import (
	"os"
	"syscall"
)

// minDescriptor keeps descriptor 3 free, which is the lock of the node's data directory.
const minDescriptor = 10

// takeStdout returns what was stdout, on a descriptor that child processes do not inherit. Descriptor 1 is stderr
// afterwards.
func takeStdout() (*os.File, error) {
	fd, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(syscall.Stdout), syscall.F_DUPFD_CLOEXEC, minDescriptor)
	if errno != 0 {
		return nil, errno
	}
	out := os.NewFile(fd, "stdout")
	if err := syscall.Dup3(syscall.Stderr, syscall.Stdout, 0); err != nil {
		out.Close()
		return nil, err
	}
	return out, nil
}
