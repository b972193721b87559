package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// pubRecord is one message to publish, or why it cannot be.
type pubRecord struct {
	line int // 0 for a message that is no line.
	key  string
	id   string
	data []byte
	err  error
}

// pubInput gives one record after the other.
type pubInput struct {
	reader   *bufio.Reader
	source   io.Reader // Closed at the end, if it can be.
	size     int64     // Bytes to read, 0 if not known.
	read     int64     // Bytes read.
	line     int
	one      *pubRecord // The only message; nil for lines.
	key      string
	keyField []string
	idField  []string
}

// maxLine bounds the memory that one line can take; the broker's limit for a message is lower.
const maxLine = 64 << 20

func oneMessage(key, id, body string) *pubInput {
	return &pubInput{one: &pubRecord{key: key, id: id, data: []byte(body)}}
}

func newLines(in io.Reader, size int64, f pubFlags) *pubInput {
	return &pubInput{
		reader: bufio.NewReaderSize(in, 1<<20), source: in, size: size, key: f.key,
		keyField: fieldPath(f.keyField), idField: fieldPath(f.idField),
	}
}

func fieldPath(field string) []string {
	if field == "" {
		return nil
	}
	return strings.Split(field, ".")
}

func (p *pubInput) close() {
	if c, ok := p.source.(io.Closer); ok {
		c.Close()
	}
}

// next returns io.EOF after the last record. Empty lines are skipped.
func (p *pubInput) next() (pubRecord, error) {
	if p.reader == nil {
		return p.nextOne()
	}
	for {
		line, err := p.nextLine()
		if err != nil {
			return pubRecord{}, err
		}
		if len(bytes.TrimSpace(line)) > 0 {
			return p.record(line), nil
		}
	}
}

func (p *pubInput) nextOne() (pubRecord, error) {
	if p.one == nil {
		return pubRecord{}, io.EOF
	}
	r := *p.one
	p.one = nil
	return r, nil
}

func (p *pubInput) nextLine() ([]byte, error) {
	var line []byte
	for {
		part, err := p.reader.ReadSlice('\n')
		line = append(line, part...)
		p.read += int64(len(part))
		if len(line) > maxLine {
			return nil, fmt.Errorf("line %d is longer than %d bytes: is this one message a line?", p.line+1, maxLine)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && (len(line) == 0 || !errors.Is(err, io.EOF)) {
			return nil, err
		}
		p.line++
		return bytes.TrimRight(line, "\r\n"), nil
	}
}

func (p *pubInput) record(line []byte) pubRecord {
	r := pubRecord{line: p.line, key: p.key, data: line}
	if p.keyField == nil && p.idField == nil {
		return r
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber() // A long number is a key too, digit by digit.
	var tree any
	if err := decoder.Decode(&tree); err != nil {
		r.err = errors.New("line is not JSON")
		return r
	}
	if p.keyField != nil {
		r.key, r.err = fieldText(tree, p.keyField)
	}
	if p.idField != nil && r.err == nil {
		r.id, r.err = fieldText(tree, p.idField)
	}
	return r
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
