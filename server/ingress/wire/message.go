package wire

import (
	"strconv"
	"strings"
)

// Message is a message from the broker. Its slices are only valid during the call that it is passed to.
type Message struct {
	Subject, Reply, Header, Data []byte
}

// AppendMessage appends a message as a client is sent it.
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

// RefusalAnswer is JetStream's answer to a publish that it rejects.
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

// longest is how much of a client's text is repeated to it or logged, in bytes.
const longest = 128

// Shorten cuts a text of a client for an answer or a log line.
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
