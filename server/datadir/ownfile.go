package datadir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// OpenFile opens a file of the data directory. Handlers run as the same user and can put something else in its place: a
// link, which would have us write where it points to, or a pipe, which would hold us up.
func OpenFile(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("%s is a link, and no file of a data directory is: find out who made it, then remove it", path)
	case errors.Is(err, unix.ENXIO): // A pipe without a reader, or a socket.
		return nil, notRegular(path)
	case err != nil:
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = notRegular(path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func notRegular(path string) error {
	return fmt.Errorf("%s is not a regular file, as every file of a data directory is: find out who made it, then "+
		"remove it", path)
}

// maxOwn bounds a file of ours that is read as a whole, in bytes.
const maxOwn = 1 << 20

// readFile reads a small file of the data directory.
func readFile(path string) ([]byte, error) {
	f, err := OpenFile(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxOwn))
	return text, err
}

// refuseOwner has root leave a directory alone that belongs to somebody else. Who owns it may exchange what is in it
// for links at any moment, and files that root leaves there keep the owner's agent from starting.
func refuseOwner(path string, uid int) error {
	if uid != 0 {
		return nil
	}
	for _, look := range []func(string) (fs.FileInfo, error){os.Lstat, os.Stat} { // A link of theirs could point anywhere.
		info, err := look(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look at the owner of the data directory: %w", err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || st.Uid == 0 {
			continue
		}
		who := nameOf(st.Uid)
		return fmt.Errorf("data directory %s belongs to %s and this agent runs as root, who would leave files there that "+
			"%s cannot use: "+
			"run it as that user (systemctl start leasehold, or: sudo -u %s leasehold agent …), or give root a directory of "+
			"its own", path, who, who, who)
	}
	return nil
}

// nameOf is a user's name, or #UID as sudo takes it.
func nameOf(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "'#" + id + "'"
}
