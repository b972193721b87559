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

	"leasehold/internal/jsondata"
)

// Options say what a line's key and message id are.
type Options struct {
	Key      string // Of every line, unless KeyField is set.
	KeyField string // Field of each line's JSON that holds its key, like "customer.id".
	IDField  string // Field of each line's JSON that holds its message id; empty: none.
	JSON     bool   // Every line must be a JSON value, also if no field of it is asked for.
	MaxLine  int    // Bytes that a line may have; 0 stands for 64 MiB.
}

// Record is one message, or why it is none.
type Record struct {
	Line int // Counted from 1, empty lines too.
	Key  string
	ID   string
	Data []byte // The line without its end.
	Err  error  // Why the line is not taken; nil if it is.
}

// Reader gives one record after the other.
type Reader struct {
	in       *bufio.Reader
	opt      Options
	keyField []string
	idField  []string
	line     int
	read     int64
	started  bool // The first bytes have been looked at.
	begun    bool // The first line that is not empty has been.
}

const defaultMaxLine = 64 << 20

// NewReader reads lines from in.
func NewReader(in io.Reader, o Options) *Reader {
	if o.MaxLine == 0 {
		o.MaxLine = defaultMaxLine
	}
	return &Reader{in: bufio.NewReaderSize(in, 64<<10), opt: o, keyField: fieldPath(o.KeyField),
		idField: fieldPath(o.IDField)}
}

func fieldPath(field string) []string {
	if field == "" {
		return nil
	}
	return strings.Split(field, ".")
}

// Bytes is how much has been read.
func (r *Reader) Bytes() int64 { return r.read }

// Why nothing of the input, or nothing more of it, can be read.
var (
	// ErrTooLong is for a line of more than MaxLine bytes.
	ErrTooLong = errors.New("line is too long")
	// ErrNotLines is for an input that is not one message a line.
	ErrNotLines = errors.New("input is not one message a line")
)

// Next returns io.EOF after the last record. Empty lines are skipped. Any other error is about the whole input.
func (r *Reader) Next() (Record, error) {
	for {
		line, err := r.nextLine()
		if err != nil {
			return Record{}, err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if err := r.checkFirst(line); err != nil {
			return Record{}, err
		}
		return r.record(line), nil
	}
}

// checkFirst looks at the first line that is not empty: if that one is a part of something larger, all lines are, and
// none must be taken for a message.
func (r *Reader) checkFirst(line []byte) error {
	if r.begun {
		return nil
	}
	r.begun = true
	line = bytes.TrimSpace(line)
	opens := bytes.ContainsAny(line[:1], "[{") && bytes.ContainsAny(line[len(line)-1:], "[{,")
	if opens && errors.Is(jsondata.Check(line), jsondata.ErrTruncated) {
		return fmt.Errorf("%w: line %d starts a JSON value that continues on the next line; put each message on one line, "+
			"for example with `jq -c .`, or `jq -c '.[]'` for an array", ErrNotLines, r.line)
	}
	return nil
}

// start skips a byte order mark, and refuses an input that is not UTF-8 from its first bytes on.
func (r *Reader) start() error {
	if r.started {
		return nil
	}
	r.started = true
	head, err := r.in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := jsondata.CheckStart(head); err != nil {
		return fmt.Errorf("input is %w", err)
	}
	skipped, err := r.in.Discard(len(head) - len(jsondata.TrimBOM(head)))
	r.read += int64(skipped)
	return err
}

func (r *Reader) nextLine() ([]byte, error) {
	if err := r.start(); err != nil {
		return nil, err
	}
	var line []byte
	for {
		part, err := r.in.ReadSlice('\n')
		line = append(line, part...)
		r.read += int64(len(part))
		if len(line) > r.opt.MaxLine {
			return nil, fmt.Errorf("%w: line %d has more than %d bytes: is this one message a line?", ErrTooLong, r.line+1,
				r.opt.MaxLine)
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
	if rec.Err = r.check(line); rec.Err != nil {
		return rec
	}
	if r.keyField != nil {
		rec.Key, rec.Err = fieldText(line, r.keyField)
	}
	if r.idField != nil && rec.Err == nil {
		rec.ID, rec.Err = fieldText(line, r.idField)
	}
	return rec
}

// fault is what is wrong with one line: a reason that many lines may share, and the whole text with what only this one
// has.
type fault struct{ reason, text string }

func (f *fault) Error() string { return f.text }

// Reason is why a line is not taken, without what only this line has, so that lines can be counted by it.
func Reason(err error) string {
	var f *fault
	if errors.As(err, &f) {
		return f.reason
	}
	return err.Error()
}

// check refuses a line that is not text or, where it should be JSON, not one value of it.
func (r *Reader) check(line []byte) error {
	check := jsondata.Check
	if !r.opt.JSON && r.keyField == nil && r.idField == nil {
		check = jsondata.CheckEncoding
	}
	switch err := check(line); {
	case err == nil:
		return nil
	case errors.Is(err, jsondata.ErrEncoding):
		return &fault{"line is not UTF-8", "line is " + err.Error()}
	case errors.Is(err, jsondata.ErrTrailing):
		return &fault{"line is not one JSON value", "line is not one JSON value: " + err.Error()}
	case errors.Is(err, jsondata.ErrTruncated):
		return &fault{"line is not JSON", "line is not JSON: " + err.Error()}
	default:
		return &fault{"line is not JSON", "line is " + err.Error()}
	}
}

// fieldText finds a field of a line that was checked, and spells its value.
func fieldText(line []byte, path []string) (string, error) {
	value, field := json.RawMessage(line), strings.Join(path, ".")
	if bytes.HasPrefix(bytes.TrimSpace(line), []byte("[")) {
		return "", fmt.Errorf("line is a JSON array and has no field %q; put each element on its own line, for example "+
			"with `jq -c '.[]'`", field)
	}
	for _, name := range path {
		object, err := jsondata.Object(value)
		switch {
		case errors.Is(err, jsondata.ErrNotObject):
			return "", fmt.Errorf("line has no field %q", field)
		case err != nil:
			return "", fmt.Errorf("cannot read field %q: %w", field, err)
		}
		if value = object[name]; value == nil {
			return "", fmt.Errorf("line has no field %q", field)
		}
	}
	return spell(value, field)
}

// spell is a value as text: a long number is a key too, digit by digit.
func spell(value json.RawMessage, field string) (string, error) {
	switch value[0] {
	case '{', '[':
		return "", fmt.Errorf("field %q is not text or a number", field)
	case 'n':
		return "", fmt.Errorf("line has no field %q", field)
	case '"':
		text, err := jsondata.Text(value)
		if err == nil && text == "" {
			return "", fmt.Errorf("field %q is empty", field)
		}
		if err != nil {
			return "", fmt.Errorf("field %q %w", field, err)
		}
		return text, nil
	}
	return string(value), nil
}
