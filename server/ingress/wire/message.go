package wire

import (
	"strconv"
	"strings"
)

// Message is what the broker delivers. Its slices are valid until the call that takes it returns.
type Message struct {
	Subject, Reply, Header, Data []byte
}

// AppendMessage appends a message as a client gets it.
func AppendMessage(out, subject []byte, sid string, reply []byte, m Message, headers bool) []byte {
	op := "MSG "
	header := m.Header
	if !headers {
		header = nil
	}
	if len(header) > 0 {
		op = "HMSG "
	}
	out = append(append(append(append(append(out, op...), subject...), ' '), sid...), ' ')
	if len(reply) > 0 {
		out = append(append(out, reply...), ' ')
	}
	if len(header) > 0 {
		out = append(strconv.AppendInt(out, int64(len(header)), 10), ' ')
	}
	out = append(strconv.AppendInt(out, int64(len(header)+len(m.Data)), 10), "\r\n"...)
	return append(append(append(out, header...), m.Data...), "\r\n"...)
}

// RefusalAnswer is an answer of JetStream to a publish that it does not take.
type RefusalAnswer struct {
	Error  RefusalError `json:"error"`
	Stream string       `json:"stream"`
	Seq    uint64       `json:"seq"`
}

type RefusalError struct {
	Code        int    `json:"code"`
	ErrCode     uint16 `json:"err_code"`
	Description string `json:"description"`
}

// Parts of a client's text in what it is answered.
const longest = 128

func Shorten(s string) string {
	if len(s) > longest {
		return s[:longest] + "…"
	}
	return s
}

// Quotable keeps a text within the quotes of an -ERR line.
func Quotable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\'' {
			return '"'
		}
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}
