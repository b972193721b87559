// Package lines reads messages that come one a line, each under one key for all or under what its JSON says.
package lines

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Options say what a line's key and message id are.
type Options struct {
	Key      string // Of every line, unless KeyField is set.
	KeyField string // Field of each line's JSON that holds its key, like "customer.id".
	IDField  string // Field of each line's JSON that holds its message id; empty: none.
	MaxLine  int    // Bytes that a line may have; 0 stands for 64 MiB.
}

// Record is one message, or why it is none.
type Record struct {
	Line int // Counted from 1, empty lines too.
	Key  string
	ID   string
	Data []byte // The line without its end.
	Err  error  // Why the line has no key or id; nil if it has.
}

// Reader gives one record after the other.
type Reader struct {
	in       *bufio.Reader
	opt      Options
	keyField []string
	idField  []string
	line     int
	read     int64
}

const defaultMaxLine = 64 << 20

// NewReader reads lines from in.
func NewReader(in io.Reader, o Options) *Reader {
	if o.MaxLine == 0 {
		o.MaxLine = defaultMaxLine
	}
	return &Reader{in: bufio.NewReaderSize(in, 64<<10), opt: o, keyField: fieldPath(o.KeyField), idField: fieldPath(o.IDField)}
}

func fieldPath(field string) []string {
	if field == "" {
		return nil
	}
	return strings.Split(field, ".")
}

// Bytes is how much has been read.
func (r *Reader) Bytes() int64 { return r.read }

// ErrTooLong is for a line of more than MaxLine bytes.
var ErrTooLong = errors.New("line is too long")

// Next returns io.EOF after the last record. Empty lines are skipped.
func (r *Reader) Next() (Record, error) {
	for {
		line, err := r.nextLine()
		if err != nil {
			return Record{}, err
		}
		if len(bytes.TrimSpace(line)) > 0 {
			return r.record(line), nil
		}
	}
}

func (r *Reader) nextLine() ([]byte, error) {
	var line []byte
	for {
		part, err := r.in.ReadSlice('\n')
		line = append(line, part...)
		r.read += int64(len(part))
		if len(line) > r.opt.MaxLine {
			return nil, fmt.Errorf("%w: line %d has more than %d bytes: is this one message a line?", ErrTooLong, r.line+1, r.opt.MaxLine)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && (len(line) == 0 || !errors.Is(err, io.EOF)) {
			return nil, err
		}
		r.line++
		return bytes.TrimRight(line, "\r\n"), nil
	}
}

func (r *Reader) record(line []byte) Record {
	rec := Record{Line: r.line, Key: r.opt.Key, Data: line}
	if r.keyField == nil && r.idField == nil {
		return rec
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber() // A long number is a key too, digit by digit.
	var tree any
	if err := decoder.Decode(&tree); err != nil {
		rec.Err = errors.New("line is not JSON")
		return rec
	}
	if r.keyField != nil {
		rec.Key, rec.Err = fieldText(tree, r.keyField)
	}
	if r.idField != nil && rec.Err == nil {
		rec.ID, rec.Err = fieldText(tree, r.idField)
	}
	return rec
}

// fieldText finds a field and spells its value.
func fieldText(tree any, path []string) (string, error) {
	for _, name := range path {
		object, ok := tree.(map[string]any)
		if !ok {
			return "", fmt.Errorf("line has no field %q", strings.Join(path, "."))
		}
		tree = object[name]
	}
	switch v := tree.(type) {
	case string:
		if v == "" {
			return "", fmt.Errorf("field %q is empty", strings.Join(path, "."))
		}
		return v, nil
	case json.Number:
		return v.String(), nil
	case bool:
		return fmt.Sprint(v), nil
	case nil:
		return "", fmt.Errorf("line has no field %q", strings.Join(path, "."))
	}
	return "", fmt.Errorf("field %q is no text or number", strings.Join(path, "."))
}
