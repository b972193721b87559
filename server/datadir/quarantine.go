package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Quarantine moves this node's replica of an account's stream out of the broker's reach and returns its new path. The
// stream's Raft group stays where it is, because this node's votes must not be forgotten. The broker must not be
// running; when it starts again, it fetches the replica from the other nodes.
func (d *Dir) Quarantine(account, stream string, now time.Time) (string, error) {
	from := filepath.Join(d.StoreDir(), account, "streams", stream)
	dir := filepath.Join(d.path, damagedDir)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("quarantine the replica of %s: %w", stream, err)
	}
	to := filepath.Join(dir, stream+"-"+now.UTC().Format("20060102T150405Z"))
	if err := os.Rename(from, to); err != nil {
		return "", fmt.Errorf("quarantine the replica of %s: %w", stream, err)
	}
	return to, errors.Join(syncDir(dir), syncDir(filepath.Dir(from)))
}
