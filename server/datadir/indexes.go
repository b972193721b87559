package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// DropIndexes removes the broker's summaries of its stores, so that its next start reads the messages themselves. The
// broker writes a summary when it stops, of what it has in memory, and nothing keeps it from doing so after a write
// that failed (nats-server v2.15.2, filestore.go, _writeFullState). Then the first message of a block that could not be
// written stands in it, and counts as deleted at the next start: a hole. A cluster takes what follows its last Raft
// snapshot from the log, which hides that; a node on its own would have the hole.
func (d *Dir) DropIndexes() error {
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
