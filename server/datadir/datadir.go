// Package datadir is a node's data directory: its lock, the identity of the node that it belongs to, the boot counter,
// and files that survive a power cut. One process holds a directory at a time; a directory of another node, cluster or
// mode is refused, and so is one on a network file system.
package datadir

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Mode says whether a node stands alone or is one of a cluster. It is fixed when the data directory is made.
type Mode string

// The two modes.
const (
	Single  Mode = "single"
	Cluster Mode = "cluster"
)

// Identity is whose data a directory holds.
type Identity struct {
	Node    string `json:"node"`
	Cluster string `json:"cluster"`
	Mode    Mode   `json:"mode"`
}

// ErrInUse is in the chain of Open's error when another process holds the directory.
var ErrInUse = errors.New("data directory is in use")

// ErrMismatch is in the chain of Open's error when the directory was made for another node, cluster or mode.
var ErrMismatch = errors.New("the config does not fit the data directory")

// identityFormat is the version of the identity file and of everything else in a data directory.
const identityFormat = 1

// Names in a data directory.
const (
	lockFile     = "lock"
	handlerFile  = "handlers.lock"
	identityFile = "identity.json"
	bootFile     = "boot"
	formedFile   = "formed"
	storeDir     = "jetstream"
	BallastFile  = "ballast"
	ProbeFile    = "fsync.probe"
	damagedDir   = "damaged"
)

// SocketFile is the name of the agent's socket in the data directory.
const SocketFile = "leasehold.sock"

// handlerLockPoll is how often HandlerLock looks again; a former life's children usually end within milliseconds.
const handlerLockPoll = 20 * time.Millisecond

// identityRecord is the identity file.
type identityRecord struct {
	Format int    `json:"format"`
	DirID  string `json:"dir_id"` // random, made with the directory: tells a wiped or second directory from this one
	Identity
	ServerName string `json:"server_name"` // node + "-" + random; the broker's Raft peer is named by it
}

// Dir is a locked data directory with a checked identity. One process holds it at a time.
type Dir struct {
	path   string
	record identityRecord
	lock   *os.File // holds the exclusive lock until Close; not inherited by children

	mu       sync.Mutex
	handlers *os.File // second lock, once taken; handler children inherit it
}

// Open makes the directory if need be, locks it and checks that it belongs to this identity. The first open
// writes the identity. Close gives the lock back.
func Open(path string, id Identity) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", path, err)
	}
	if err := refuseOwner(path, os.Geteuid()); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	if err := refuseNetworkFS(path); err != nil {
		return nil, err
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: path, lock: lock}
	if err := d.loadIdentity(id); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}

// lockDir takes the exclusive lock or says at once who cannot have it. flock and not fcntl: it belongs to the open
// file, so a library that opens and closes the same file cannot drop it.
func lockDir(path string) (*os.File, error) {
	f, err := OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data directory: %w", err)
	}
	err = flock(f)
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%w: another leasehold process holds %s; stop it, or set node.data_dir to another directory",
			ErrInUse, path)
	}
	return nil, fmt.Errorf("lock data directory %s: %w", path, err)
}

// flock tries to take the exclusive lock of an open file without waiting.
func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// loadIdentity compares the saved identity with the wanted one, or saves the wanted one in a fresh directory.
func (d *Dir) loadIdentity(want Identity) error {
	file := filepath.Join(d.path, identityFile)
	text, err := readFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return d.createIdentity(file, want)
	}
	if err != nil {
		return fmt.Errorf("read the identity of the data directory: %w", err)
	}
	if err := json.Unmarshal(text, &d.record); err != nil || d.record.DirID == "" || d.record.ServerName == "" {
		return fmt.Errorf("identity file %s is damaged (%w); restore it from a backup, or move the whole directory "+
			"away and start as a new node", file, orInvalid(err))
	}
	return d.checkIdentity(want)
}

func orInvalid(err error) error {
	if err != nil {
		return err
	}
	return errors.New("fields are missing")
}

// createIdentity makes a fresh directory ours. One that already holds a broker's data is somebody else's, or has lost
// its identity: under a new name its streams would be taken for orphans and deleted 30 s after the start.
func (d *Dir) createIdentity(file string, want Identity) error {
	used, err := exists(d.StoreDir())
	if err != nil {
		return fmt.Errorf("look into the data directory: %w", err)
	}
	if used {
		return fmt.Errorf("data directory %s holds a broker's data (%s) but no %s: it is not ours to use; "+
			"set node.data_dir to an empty directory, or restore the identity file", d.path, storeDir, identityFile)
	}
	d.record = identityRecord{
		Format: identityFormat, DirID: randomHex(16), Identity: want, ServerName: want.Node + "-" + randomHex(4),
	}
	text, err := json.MarshalIndent(d.record, "", "  ")
	if err != nil {
		return err
	}
	if err := writeDurably(file, append(text, '\n')); err != nil {
		return fmt.Errorf("save the identity of the data directory: %w", err)
	}
	return nil
}

// checkIdentity reports every difference at once.
func (d *Dir) checkIdentity(want Identity) error {
	have := d.record
	if have.Format != identityFormat {
		return fmt.Errorf("data directory %s has format %d, this leasehold knows %d: it was made by another version; "+
			"run that version", d.path, have.Format, identityFormat)
	}
	var errs []error
	if have.Node != want.Node {
		errs = append(errs, fmt.Errorf("data directory %s belongs to node %q, the config says node.name = %q: "+
			"use each node's own directory, or an empty one for a new node", d.path, have.Node, want.Node))
	}
	if have.Mode != want.Mode {
		errs = append(errs, modeError(d.path, have.Mode, want.Mode))
	} else if have.Cluster != want.Cluster {
		errs = append(errs, fmt.Errorf("data directory %s belongs to cluster %q, the config says cluster.name = %q: "+
			"a cluster cannot be renamed; use the old name, or an empty directory", d.path, have.Cluster, want.Cluster))
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrMismatch, errors.Join(errs...))
}

// modeError says how to move: the broker would delete the other mode's streams, so nothing is converted in place.
func modeError(path string, have, want Mode) error {
	return fmt.Errorf("data directory %s was made in %s mode, the config asks for %s mode: its data does not survive the "+
		"switch. Set node.data_dir to an empty directory for %s mode, let the old one finish what it holds in %s mode, and "+
		"have publishers send what is still needed again", path, have, want, want, have)
}

// Close gives both locks back. The broker and every handler child must have ended.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	if d.handlers != nil {
		err = d.handlers.Close()
		d.handlers = nil
	}
	return errors.Join(err, d.lock.Close())
}

// Path is the directory, absolute.
func (d *Dir) Path() string { return d.path }

// StoreDir is where the broker keeps its streams and Raft groups.
func (d *Dir) StoreDir() string { return filepath.Join(d.path, storeDir) }

// SocketPath is where the agent listens for local commands.
func (d *Dir) SocketPath() string { return filepath.Join(d.path, SocketFile) }

// ServerName is the broker's name: the node's name, "-" and a random id, the same for the life of the directory.
// A wiped disk gets another one, so the broker never takes a node without memory for the one that voted.
func (d *Dir) ServerName() string { return d.record.ServerName }

// DirID is random, made with the directory and never changed.
func (d *Dir) DirID() string { return d.record.DirID }

// Lock names the lock file by device and inode: the same pair under the same DirID and kernel boot is the same file,
// so whoever holds its lock knows that every former holder on this machine is gone.
func (d *Dir) Lock() (dev, ino uint64) {
	var st unix.Stat_t
	if unix.Fstat(int(d.lock.Fd()), &st) != nil {
		return 0, 0
	}
	return st.Dev, st.Ino
}

// KernelBootID is random per boot of this machine's kernel, "" if it cannot be read: two unknown ids are not equal.
func (d *Dir) KernelBootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// HandlerLock takes the second lock, which handler children inherit (pass the file on to each of them). It is free
// only when every child of a former life is gone, and that is what this waits for. The file stays ours until Close;
// a second call returns the same one.
func (d *Dir) HandlerLock(ctx context.Context) (*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.handlers != nil {
		return d.handlers, nil
	}
	f, err := OpenFile(filepath.Join(d.path, handlerFile), os.O_RDONLY|os.O_CREATE) // Handlers get it.
	if err != nil {
		return nil, fmt.Errorf("open the handlers' lock: %w", err)
	}
	if err := waitFlock(ctx, f); err != nil {
		err = fmt.Errorf("wait until the handlers of a former run have ended (they hold %s): %w", f.Name(), err)
		return nil, errors.Join(err, f.Close())
	}
	d.handlers = f
	return f, nil
}

// waitFlock polls, because a blocking flock could not be given up when ctx ends.
func waitFlock(ctx context.Context, f *os.File) error {
	tick := time.NewTicker(handlerLockPoll)
	defer tick.Stop()
	for {
		err := flock(f)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// Boot is the highest boot number ever saved here, 0 in a new directory.
func (d *Dir) Boot() (uint64, error) {
	file := filepath.Join(d.path, bootFile)
	text, err := readFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the boot counter: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("boot counter %s is damaged: %w", file, err)
	}
	return n, nil
}

// SetBoot saves a boot number; when it returns, the number survives a power cut.
func (d *Dir) SetBoot(n uint64) error {
	text := strconv.FormatUint(n, 10) + "\n"
	if err := writeDurably(filepath.Join(d.path, bootFile), []byte(text)); err != nil {
		return fmt.Errorf("save boot %d: %w", n, err)
	}
	return nil
}

// Formed reports whether this directory has ever been part of a complete cluster.
func (d *Dir) Formed() (bool, error) { return exists(filepath.Join(d.path, formedFile)) }

// SetFormed records that it has.
func (d *Dir) SetFormed() error {
	return writeDurably(filepath.Join(d.path, formedFile), []byte("the cluster has been complete once\n"))
}

// CheckClusterState refuses a store that has lost its cluster state. Its votes and the list of streams are in the meta
// group's directory, in the system account; without it the node would join as if it had never voted, and delete its
// account's streams as orphans.
func (d *Dir) CheckClusterState(account, systemAccount string) error {
	formed, err1 := d.Formed()
	streams, err2 := exists(filepath.Join(d.StoreDir(), account))
	meta, err3 := exists(filepath.Join(d.StoreDir(), systemAccount, "_js_", "_meta_"))
	if err := errors.Join(err1, err2, err3); err != nil || meta || (!formed && !streams) {
		return err
	}
	return fmt.Errorf("data directory %s was part of cluster %q but its cluster state is gone (%s): "+
		"move the directory away and start this node with an empty one; the others will fill it",
		d.path, d.record.Cluster, filepath.Join(storeDir, systemAccount, "_js_", "_meta_"))
}

// randomHex returns n random bytes as hex. crypto/rand never fails on Linux.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}
