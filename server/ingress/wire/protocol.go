// Package wire reads and writes pieces of the NATS client protocol: lines and their fields, subjects, messages.
package wire

import (
	"bytes"
	"strconv"
	"strings"
)

// MaxLine is the maximum length of a client's protocol line, as in the broker.
const MaxLine = 4096

// MaxFields is one more than an operation can have, so that too many are noticed.
const MaxFields = 6

// Split splits a line at blanks and tabs, and returns the number of fields. The last of MaxFields has all the rest.
func Split(line []byte, fields *[MaxFields][]byte) (n int) {
	for n < MaxFields {
		for len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
			line = line[1:]
		}
		if len(line) == 0 {
			return n
		}
		end := bytes.IndexAny(line, " \t")
		if end < 0 || n == MaxFields-1 {
			end = len(line)
		}
		fields[n] = line[:end]
		line = line[end:]
		n++
	}
	return n
}

// operations are those that a client may use.
var operations = []string{"PUB", "HPUB", "SUB", "UNSUB", "PING", "PONG", "CONNECT"}

// Operation returns the protocol's spelling of an operation, whose letters may be of either case; "" if it is not a
// valid one. The lengths must be equal: Unicode folds letters to ours that are not ASCII, and those have more bytes.
func Operation(word []byte) string {
	for _, op := range operations {
		if len(op) == len(word) && bytes.EqualFold(word, []byte(op)) {
			return op
		}
	}
	return ""
}

// ConnectOptions are the options of CONNECT.
type ConnectOptions struct {
	Verbose      bool   `json:"verbose"`
	Headers      bool   `json:"headers"`
	NoResponders bool   `json:"no_responders"`
	User         string `json:"user"`
	Pass         string `json:"pass"`
	Token        string `json:"auth_token"`
	NKey         string `json:"nkey"`
	Signature    string `json:"sig"`
	JWT          string `json:"jwt"`
}

// Info is the first message to a client. It says no more about the node than clients need.
type Info struct {
	ID           string `json:"server_id"`
	Name         string `json:"server_name"`
	Version      string `json:"version"`
	Proto        int    `json:"proto"`
	Headers      bool   `json:"headers"`
	MaxPayload   int    `json:"max_payload"`
	JetStream    bool   `json:"jetstream"`
	ClientID     uint64 `json:"client_id"`
	AuthRequired bool   `json:"auth_required,omitempty"`
	TLSRequired  bool   `json:"tls_required,omitempty"`
	TLSVerify    bool   `json:"tls_verify,omitempty"`
	TLSAvailable bool   `json:"tls_available,omitempty"`
	Nonce        string `json:"nonce,omitempty"`
}

// Release returns a version with 0 for its last number: clients decide nothing by the patch level, and those that have
// not logged in must not learn which one a node lacks.
func Release(version string) string {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 3 {
		return version
	}
	return parts[0] + "." + parts[1] + ".0"
}

// Size reads a size of at most nine digits.
func Size(b []byte) (n int, ok bool) {
	if len(b) == 0 || len(b) > 9 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// ParseAckToken reads "<client>.<number>", both in base 36.
func ParseAckToken(tokens []byte) (id, seq uint64, ok bool) {
	first, second, ok := bytes.Cut(tokens, []byte("."))
	if !ok {
		return 0, 0, false
	}
	id, ok1 := base36(first)
	seq, ok2 := base36(second)
	return id, seq, ok1 && ok2
}

func base36(b []byte) (n uint64, ok bool) {
	for _, c := range b {
		switch {
		case '0' <= c && c <= '9':
			n = n*36 + uint64(c-'0')
		case 'a' <= c && c <= 'z':
			n = n*36 + uint64(c-'a') + 10
		default:
			return 0, false
		}
	}
	return n, len(b) > 0 && len(b) <= 12
}

// AppendNumber appends a number as it is written in the ingress's subjects.
func AppendNumber(b []byte, n uint64) []byte { return strconv.AppendUint(b, n, 36) }
