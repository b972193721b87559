package header

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"maps"
	"net/textproto"
	"slices"
	"strings"
)

// Headers that cannot be sent as they are travel packed: as one run of bytes. A plain NATS client may publish names
// that the client library refuses to send, values that it would change, and as many headers as fit into a message, to
// which a dead letter then has to add its own.

var errPacked = errors.New("packed headers end too soon")

// Sendable reports whether a header is received as it is sent.
func Sendable(name string, values []string) bool {
	for i := range len(name) {
		if IsNotToken(name[i]) {
			return false
		}
	}
	return name != "" && !slices.ContainsFunc(values, func(v string) bool {
		return v != textproto.TrimString(v) || strings.ContainsAny(v, "\r\n")
	})
}

// Size returns how many bytes headers take as they are sent.
func Size(headers map[string][]string) int {
	n := len("NATS/1.0\r\n\r\n")
	for name, values := range headers {
		for _, v := range values {
			n += len(name) + len(": \r\n") + len(v)
		}
	}
	return n
}

// Pack encodes headers as one run of bytes, sorted by name: each name, the number of its values, the values. It is
// hardly longer than the headers were when they were published.
func Pack(headers map[string][]string) []byte {
	var b []byte
	put := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		put(name)
		b = binary.AppendUvarint(b, uint64(len(headers[name])))
		for _, v := range headers[name] {
			put(v)
		}
	}
	return b
}

// Unpack reverses Pack.
func Unpack(b []byte) (map[string][]string, error) {
	headers := map[string][]string{}
	for len(b) > 0 {
		name, rest, err := unpackText(b)
		if err != nil {
			return nil, err
		}
		count, rest, err := unpackNumber(rest)
		if err != nil || count > len(rest) { // A value takes a byte at least.
			return nil, errPacked
		}
		var values []string
		for range count {
			var v string
			if v, rest, err = unpackText(rest); err != nil {
				return nil, err
			}
			values = append(values, v)
		}
		headers[name], b = values, rest
	}
	return headers, nil
}

func unpackNumber(b []byte) (n int, rest []byte, err error) {
	v, size := binary.Uvarint(b)
	if size <= 0 || v > uint64(len(b)) {
		return 0, nil, errPacked
	}
	return int(v), b[size:], nil
}

func unpackText(b []byte) (text string, rest []byte, err error) {
	n, b, err := unpackNumber(b)
	if err != nil || n > len(b) {
		return "", nil, errPacked
	}
	return string(b[:n]), b[n:], nil
}

// PackUnsendable replaces headers that cannot be sent by one that holds them.
func PackUnsendable(headers map[string][]string) {
	packed := map[string][]string{}
	for name, values := range headers {
		if !Sendable(name, values) {
			packed[name] = values
			delete(headers, name)
		}
	}
	if len(packed) > 0 {
		headers[PackedHeaders] = []string{base64.StdEncoding.EncodeToString(Pack(packed))}
	}
}

// Restore returns the headers of a stored message as its publisher sent them: those that a requeue packed are unpacked.
func Restore(headers map[string][]string) map[string][]string {
	text := First(headers, PackedHeaders)
	if text == "" {
		return headers
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return headers
	}
	packed, err := Unpack(raw)
	if err != nil {
		return headers
	}
	all := maps.Clone(headers)
	delete(all, PackedHeaders)
	maps.Copy(all, packed)
	return all
}
