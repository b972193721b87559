//go:build !linux

package sdk

import "os"

// takeStdout returns stdout, which os.Stdout does not name afterwards. Nodes run on Linux: elsewhere a program is only
// built and tried out.
func takeStdout() (*os.File, error) {
	out := os.Stdout
	os.Stdout = os.Stderr
	return out, nil
}
