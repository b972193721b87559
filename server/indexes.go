package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// dropIndexes removes the broker's summaries of its stores, so that its next start reads the messages themselves. The broker
// writes a summary when it stops, of what it has in memory. After a write that failed, that is more than the files hold: a
// new value of a lease that is not on the disk, and the old one, which is, marked as deleted. Started from such a summary on
// every node of a site whose disks had been full, it knew nothing of leases that had been written long before.
func (d *DataDir) dropIndexes() error {
	var errs []error
	for _, pattern := range []string{
		filepath.Join(d.StoreDir(), "*", "streams", "*", "msgs", "index.db"),
		filepath.Join(d.StoreDir(), "*", "_js_", "*", "msgs", "index.db"),
	} {
		files, err := filepath.Glob(pattern)
		errs = append(errs, err)
		for _, file := range files {
			if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove the summaries of stores that could not be written: %w", err)
	}
	return nil
}
