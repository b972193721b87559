package server

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The broker keeps a summary of each store (index.db): how far it goes, and what is deleted. It writes one every two minutes
// or so and when it stops, of what it has in memory. At its next start it believes a summary that says more than the message
// files: what is missing counts as deleted (nats-server v2.15.2, filestore.go, newFileStoreWithCreatedAndMode). A summary
// says more
//
//   - after a write that failed: the first message of a block that could not be written stands in it;
//   - after power was lost within half a minute: a file that is written anew reaches the disk sooner than what was appended to
//     another, and message files of a stream with three copies are not synced, for the Raft log is.
//
// A cluster takes what follows its last Raft snapshot from the log, whatever the summary says. A single node comes up with
// holes, which are damage to us. So a summary is believed only if the run that wrote it ended in order and nothing was left
// to reach the disk; this file is the proof. Without it, the next start reads the messages themselves.
const wholeFile = "stores.whole"

var wholeText = []byte("the broker stopped in order and its stores are on the disk\n")

// syncLimit is how long a stop waits for the disk. After it, the next start takes longer instead.
const syncLimit = 3 * time.Second

// checkIndexes removes the summaries unless the last run has left them whole, and the proof of that, which holds for one
// start. It returns how many summaries it removed.
func (d *DataDir) checkIndexes() (dropped int, err error) {
	proof := filepath.Join(d.path, wholeFile)
	text, err := os.ReadFile(proof)
	switch {
	case err == nil:
		err = errors.Join(os.Remove(proof), syncDir(d.path))
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err == nil && !bytes.Equal(text, wholeText) {
		dropped, err = d.dropIndexes()
	}
	if err != nil {
		return dropped, fmt.Errorf("make sure that the broker starts from its messages: %w", err)
	}
	return dropped, nil
}

// dropIndexes removes the summaries.
func (d *DataDir) dropIndexes() (dropped int, err error) {
	var errs []error
	for _, pattern := range []string{
		filepath.Join(d.StoreDir(), "*", "streams", "*", "msgs", "index.db"),
		filepath.Join(d.StoreDir(), "*", "_js_", "*", "msgs", "index.db"),
	} {
		files, err := filepath.Glob(pattern)
		errs = append(errs, err)
		for _, file := range files {
			if err := os.Remove(file); err != nil {
				errs = append(errs, err)
				continue
			}
			dropped++
		}
	}
	return dropped, errors.Join(errs...)
}

// keepIndexes waits until everything is on the disk, and proves it.
func (d *DataDir) keepIndexes() error {
	synced := make(chan error, 1)
	go func() { synced <- syncAll(d.path) }()
	limit := time.NewTimer(syncLimit)
	defer limit.Stop()
	select {
	case err := <-synced:
		if err != nil {
			return fmt.Errorf("sync the stores: %w", err)
		}
	case <-limit.C:
		return fmt.Errorf("sync the stores: the disk takes longer than %s", syncLimit)
	}
	return writeDurably(filepath.Join(d.path, wholeFile), wholeText)
}

// syncAll makes everything on the file system durable.
func syncAll(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(dir.Fd())), dir.Close())
}
