package sdk

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// version is the version of the protocol.
const version = 1

// line is any line from the node. The fields of all types are in one struct, so a line is decoded once.
type line struct {
	V      int    `json:"v"`
	Type   string `json:"type"`
	Token  string `json:"token"`
	Reason string `json:"reason"` // Of revoke.

	App      string          `json:"app"`
	MaxBatch int             `json:"max_batch"`
	Config   json.RawMessage `json:"config"`
	NextSeq  uint64          `json:"next_seq"`
	Messages []line          `json:"messages"`

	Message
	TimeoutMS int64   `json:"timeout_ms"`
	TimeText  string  `json:"time"`
	Text      *string `json:"data"`
	DataB64   []byte  `json:"data_b64"`
}

// Types of lines.
const (
	typeInit    = "init"
	typeAssign  = "assign"
	typeMessage = "message"
	typeBatch   = "batch"
	typeRevoke  = "revoke"
	typeStop    = "stop"
	typeAck     = "ack"
	typeResult  = "result"
)

var types = []string{typeInit, typeAssign, typeMessage, typeBatch, typeRevoke, typeStop}

// parseLine decodes a line. It returns nil for a type that a later version may have added.
func parseLine(text []byte) (*line, error) {
	l := &line{}
	err := json.Unmarshal(text, l)
	var field *json.UnmarshalTypeError // All other fields have been decoded.
	switch known := slices.Contains(types, l.Type); {
	case err == nil && known:
		return l, l.complete()
	case !known && l.Type != "" && (err == nil || errors.As(err, &field)):
		return nil, nil
	case err == nil:
		err = errors.New("it has no type")
	}
	return nil, fmt.Errorf("unreadable line from the node: %w", err)
}

// complete fills in what JSON spells differently from a Message.
func (l *line) complete() error {
	if l.Type == typeBatch && len(l.Messages) == 0 {
		return errors.New("unreadable line from the node: a batch without messages")
	}
	for i := range l.Messages {
		if err := l.Messages[i].complete(); err != nil {
			return err
		}
	}
	l.Timeout, l.Data = time.Duration(l.TimeoutMS)*time.Millisecond, l.DataB64
	if l.Text != nil {
		l.Data = []byte(*l.Text)
	}
	if l.TimeText == "" {
		return nil
	}
	var err error
	if l.Time, err = time.Parse(time.RFC3339Nano, l.TimeText); err != nil {
		return fmt.Errorf("unreadable line from the node: %w", err)
	}
	return nil
}

func (l *line) assignment() Assignment { return Assignment{l.Partition, l.Epoch, l.NextSeq} }

// reply is a line to the node.
type reply struct {
	Type  string   `json:"type"`
	ID    string   `json:"id"`
	Token string   `json:"token,omitempty"`
	Wants []string `json:"wants,omitempty"` // Of the acknowledgement of init.
	outcome
	OKThrough uint64  `json:"ok_through,omitempty"` // Of a batch. 0 is left out: there is no such sequence.
	Failed    *failed `json:"failed,omitempty"`
}

// failed is what became of one message of a batch.
type failed struct {
	Seq uint64 `json:"seq"`
	outcome
}

// writer writes lines, each in one piece.
type writer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
	out    io.Writer
}

func (w *writer) write(r reply) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buffer.Reset()
	e := json.NewEncoder(&w.buffer)
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	if _, err := w.out.Write(w.buffer.Bytes()); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
}

// lineReader reads lines of any length.
type lineReader struct {
	in   *bufio.Reader
	long []byte // Holds a line that the reader's buffer cannot.
}

// maxKept is the capacity of long that is kept for the next line, in bytes.
const maxKept = 1 << 20

// next returns the next line, which is valid until the call after. What follows the last line end is dropped: the node
// died while it wrote that line.
func (r *lineReader) next() ([]byte, error) {
	if r.long = r.long[:0]; cap(r.long) > maxKept {
		r.long = nil
	}
	for {
		part, err := r.in.ReadSlice('\n')
		switch {
		case err == nil && len(r.long) == 0:
			return part, nil
		case err == nil:
			r.long = append(r.long, part...)
			return r.long, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
		r.long = append(r.long, part...)
	}
}
