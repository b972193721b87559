package cli

import (
	"io"

	"leasehold/internal/lines"
)

// pubInput gives one message to publish after the other.
type pubInput struct {
	one    *lines.Record // The only message; nil for lines.
	lines  *lines.Reader
	source io.Reader // Closed at the end, if it can be.
	size   int64     // Bytes to read, 0 if not known.
}

func oneMessage(key, id, body string) *pubInput {
	return &pubInput{one: &lines.Record{Key: key, ID: id, Data: []byte(body)}}
}

func newLines(in io.Reader, size int64, f pubFlags) *pubInput {
	return &pubInput{
		lines:  lines.NewReader(in, lines.Options{Key: f.key, KeyField: f.keyField, IDField: f.idField}),
		source: in, size: size,
	}
}

func (p *pubInput) close() {
	if c, ok := p.source.(io.Closer); ok {
		c.Close()
	}
}

// next returns io.EOF after the last message.
func (p *pubInput) next() (lines.Record, error) {
	if p.lines != nil {
		return p.lines.Next()
	}
	if p.one == nil {
		return lines.Record{}, io.EOF
	}
	r := *p.one
	p.one = nil
	return r, nil
}

// read is how many bytes have been read.
func (p *pubInput) read() int64 {
	if p.lines == nil {
		return 0
	}
	return p.lines.Bytes()
}
