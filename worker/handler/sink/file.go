// Package sink holds the handler kinds that end inside this process: "file", "log" and "discard".
package sink

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/handler/wire"
	"leasehold/worker/header"
)

// File appends one line of JSON per message to one file per partition. A message is in a node's file exactly once: a
// line is whole or removed, and a message whose sequence the file has passed is not written again.
type File struct {
	cfg FileConfig
	env handler.Env

	mu    sync.Mutex
	files map[int]*partitionFile // Guarded by mu; a file itself belongs to its partition's call.
}

// fileLine is a line of the file.
type fileLine struct {
	Node      string `json:"node"`
	Group     string `json:"group"`
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Seq       uint64 `json:"seq"`
	Epoch     uint64 `json:"epoch"`
	Attempt   int    `json:"attempt"`
	Key       string `json:"key"`
	Subject   string `json:"subject"`
	Published string `json:"published"` // When the broker stored it.
	Started   string `json:"started"`   // When this call began, on this node's clock.
	wire.Payload
}

// partitionFile is the open file of a partition.
type partitionFile struct {
	f    *os.File
	last fileLine // Its last line, Seq 0 if there is none. The payload is not kept.
}

// NewFile makes the directory and builds the handler.
func NewFile(cfg FileConfig, env handler.Env) (*File, error) {
	cfg, err := handler.Complete(cfg)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Path, 0o750); err != nil {
		return nil, fmt.Errorf("make directory for handler.path: %w", err)
	}
	return &File{cfg: cfg, env: env, files: make(map[int]*partitionFile)}, nil
}

// Name returns the file of a partition. Names of topics and groups have no dot, so no two partitions share a file.
func (h *File) Name(partition int) string {
	return filepath.Join(h.cfg.Path, fmt.Sprintf("%s.%s.%05d.ndjson", h.env.Topic, h.env.Group, partition))
}

// Assign opens the partition's file and reads its tail, so that lines of another node that shares the directory count.
func (h *File) Assign(_ context.Context, a handler.Assignment) error {
	h.close(a.Partition)
	_, err := h.open(a.Partition)
	return err
}

// Revoke closes the partition's file.
func (h *File) Revoke(_ context.Context, a handler.Assignment, _ string) { h.close(a.Partition) }

// Handle appends the message. An error here would happen with every message, so it is never the message's fault.
func (h *File) Handle(_ context.Context, m *handler.Message) handler.Result {
	started := time.Now()
	p, err := h.open(m.Partition)
	if err != nil {
		return handler.NewUnavailable("%w", err)
	}
	line := newFileLine(m, started)
	if m.Seq <= p.last.Seq {
		if err := p.checkHas(line); err != nil {
			return handler.NewUnavailable("%w", err)
		}
		return handler.Result{Status: handler.OK}
	}
	if err := p.append(line, h.cfg.Sync == SyncEach); err != nil {
		h.close(m.Partition) // Opening it again removes what was written of the line.
		return handler.NewUnavailable("append to %s: %w", p.f.Name(), err)
	}
	return handler.Result{Status: handler.OK}
}

func newFileLine(m *handler.Message, started time.Time) fileLine {
	return fileLine{
		Node: m.Node, Group: m.Group, Topic: m.Topic, Partition: m.Partition, Seq: m.Seq, Epoch: m.Epoch,
		Attempt: m.Attempt, Key: m.Key, Subject: m.Subject,
		Published: header.TimeText(m.Published), Started: started.UTC().Format(time.RFC3339Nano),
		Payload: wire.NewPayload(m.Data),
	}
}

// open returns the partition's file and opens it if need be.
func (h *File) open(partition int) (*partitionFile, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.files[partition]; p != nil {
		return p, nil
	}
	p, err := openPartitionFile(h.Name(partition), h.cfg.Sync == SyncEach)
	if err != nil {
		return nil, err
	}
	h.files[partition] = p
	return p, nil
}

func (h *File) close(partition int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.files[partition]; p != nil {
		p.f.Close() // Nothing is buffered; what must be on the disk has been synced.
		delete(h.files, partition)
	}
}

// openPartitionFile opens or makes a file, removes a torn last line, and reads the last whole one.
func openPartitionFile(name string, sync bool) (*partitionFile, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	p := &partitionFile{f: f}
	err = p.readTail()
	if err == nil && sync {
		err = syncDir(filepath.Dir(name)) // A new file's name must outlive a power cut too.
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return p, nil
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// readTail truncates the file after its last line end and reads the line before it.
func (p *partitionFile) readTail() error {
	size, err := p.f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	end, err := p.lineEndBefore(size)
	if err != nil {
		return err
	}
	if end < size {
		if err := p.f.Truncate(end); err != nil {
			return err
		}
	}
	if end == 0 {
		return nil
	}
	begin, err := p.lineEndBefore(end - 1)
	if err != nil {
		return err
	}
	line := make([]byte, end-begin)
	if _, err := p.f.ReadAt(line, begin); err != nil {
		return err
	}
	if err := json.Unmarshal(line, &p.last); err != nil || p.last.Seq == 0 {
		return fmt.Errorf("last line of %s is none of ours, so it cannot say which messages are there; move the file away",
			p.f.Name())
	}
	p.last.Payload = wire.Payload{}
	return nil
}

// lineEndBefore returns the offset behind the last line end before offset, 0 if there is none.
func (p *partitionFile) lineEndBefore(offset int64) (int64, error) {
	block := make([]byte, 64<<10)
	for offset > 0 {
		n := min(int64(len(block)), offset)
		if _, err := p.f.ReadAt(block[:n], offset-n); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(block[:n], '\n'); i >= 0 {
			return offset - n + int64(i) + 1, nil
		}
		offset -= n
	}
	return 0, nil
}

// append writes a line in one piece.
func (p *partitionFile) append(line fileLine, sync bool) error {
	text, err := wire.EncodeLine(line)
	if err != nil {
		return err
	}
	if _, err := p.f.Write(text); err != nil {
		return err
	}
	if sync {
		if err := p.f.Sync(); err != nil {
			return err
		}
	}
	line.Payload = wire.Payload{}
	p.last = line
	return nil
}

// checkHas returns an error if a message that the file has passed cannot be one that it has seen. A topic that was
// recreated starts at sequence 1 again, and against an old file all of its messages would be skipped in silence. Such
// a message is younger than the last line; clocks of nodes differ, so before it is called foreign it is looked up.
func (p *partitionFile) checkHas(line fileLine) error {
	published, err1 := time.Parse(time.RFC3339Nano, line.Published)
	last, err2 := time.Parse(time.RFC3339Nano, p.last.Published)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("compare with the last line of %s: %w", p.f.Name(), err)
	}
	if published.Before(last) || (line.Seq == p.last.Seq && published.Equal(last)) {
		return nil
	}
	found, err := p.has(line)
	if err == nil && !found {
		err = fmt.Errorf("%s goes up to sequence %d and lacks message %d published at %s: it belongs to a former topic; "+
			"move it away",
			p.f.Name(), p.last.Seq, line.Seq, line.Published)
	}
	return err
}

// has looks for the message in the file.
func (p *partitionFile) has(line fileLine) (bool, error) {
	in := bufio.NewReader(io.NewSectionReader(p.f, 0, 1<<62))
	for {
		text, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		var old fileLine
		if json.Unmarshal(text, &old) == nil && old.Seq == line.Seq && old.Published == line.Published {
			return true, nil
		}
	}
}

// How the file handler syncs.
const (
	SyncNone = "none" // The operating system writes lines out when it likes.
	SyncEach = "each" // Every line is on the disk before its message is done.
)

// FileConfig is the config of the kind "file". A zero value of any field stands for its default.
type FileConfig struct {
	Path string `toml:"path"` // Directory.
	Sync string `toml:"sync"` // SyncNone (default) or SyncEach.
}

// FileKind appends messages to files.
var FileKind = handler.NewKind("file", NewFile, handler.ConformanceNone)

// Defaulted returns c with its zero fields filled in.
func (c FileConfig) Defaulted() handler.Config {
	c.Sync = cmp.Or(c.Sync, SyncNone)
	return c
}

// Validate reports every fault by its key.
func (c FileConfig) Validate(fault handler.FaultFunc) {
	if c.Path == "" {
		fault("path", "must name a directory")
	}
	handler.OneOf(fault, "sync", c.Sync, SyncNone, SyncEach)
}

// Resources are the directory.
func (c FileConfig) Resources() handler.Resources { return handler.Resources{Directory: c.Path} }

// WithPaths returns c with its path replaced by the result of directory for it.
func (c FileConfig) WithPaths(_, directory func(path string) string) handler.Config {
	c.Path = directory(c.Path)
	return c
}

// CheckFiles finds no fault: the config names no files to read.
func (c FileConfig) CheckFiles() error { return nil }
