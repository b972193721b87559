// Package smallfile reads and writes the files that a config or a flag names: a config, a secret, a token, a
// certificate. A file that is read must be a regular one and small. Anything else is refused at once: a pipe would hold
// up its reader, without a signal ending that, and a device never ends.
package smallfile

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Most is how large a file of secrets or certificates may be, in bytes.
const Most = 1 << 20

// Read reads a whole file of at most that many bytes.
func Read(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path) // Before it is opened: to open some devices does something to them.
	var missing *fs.PathError
	if errors.As(err, &missing) {
		missing.Op = "open" // As of any file that is to be read.
	}
	if err != nil {
		return nil, err
	}
	if err := check(path, info, most); err != nil {
		return nil, err
	}
	// It may be another file by now, and a pipe would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err == nil {
		err = check(path, info, most)
	}
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, most+1)) // It may grow, and the size of one below /proc is 0.
	if err == nil && int64(len(text)) > most {
		err = tooLarge(path, most)
	}
	return text, err
}

func check(path string, info fs.FileInfo, most int64) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is %s: name a regular file", path, kind(info.Mode()))
	}
	if info.Size() > most {
		return tooLarge(path, most)
	}
	return nil
}

func tooLarge(path string, most int64) error {
	return fmt.Errorf("%s is larger than %d KiB: it is probably not the file that was meant", path, most>>10)
}

func kind(m fs.FileMode) string {
	switch m.Type() {
	case fs.ModeDir:
		return "a directory"
	case fs.ModeNamedPipe:
		return "a pipe"
	case fs.ModeSocket:
		return "a socket"
	}
	return "a device"
}

// KeyPair is tls.LoadX509KeyPair for files that this package reads.
func KeyPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := Read(certFile, Most)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := Read(keyFile, Most)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(cert, key)
}

// WriteSynced writes the content of a file to the disk, and closes the file in any case.
func WriteSynced(f *os.File, content []byte) error {
	_, err := f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
