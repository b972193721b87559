package partitioner

import (
	"errors"
	"fmt"
	"strings"

	"leasehold/internal/admission"
)

// MaxKey is the longest key in bytes, encoded; several tokens count with the dots between them.
// It leaves room in the broker's 4 KiB protocol line for the dead-letter subject and the headers around it.
const MaxKey = admission.MaxKey

// MaxSubject is the longest subject in bytes to which a message can be published: the broker ends a client whose
// protocol line is longer than 4,096 bytes, and the line has a reply subject and two sizes besides.
const MaxSubject = 4096 - 128

var (
	// ErrNoKey is for a message without a key: there is no partition it could belong to.
	ErrNoKey = errors.New("message has no key")
	// ErrKeyTooLong is for a key of more than MaxKey bytes once encoded. The error that wraps it names the length.
	ErrKeyTooLong = errors.New("key is too long")
)

const upperHex = "0123456789ABCDEF"

// EncodeKey makes the subject token of a raw key. Printable ASCII stays, save the four characters with a meaning
// in subjects and in this encoding ('.', '*', '>', '%'); those and every other byte (space, control characters,
// anything beyond ASCII) become %XX with upper-case digits. The encoding is canonical: one raw key, one token.
func EncodeKey(raw string) (string, error) {
	if raw == "" {
		return "", refuse(ErrNoKey, "it is empty")
	}
	escaped := 0
	for i := range len(raw) {
		if !keptInKey(raw[i]) {
			escaped++
		}
	}
	length := len(raw) + 2*escaped
	if err := checkKeyLength(length); err != nil {
		return "", err
	}
	if escaped == 0 {
		return raw, nil
	}
	return escapeKey(raw, length), nil
}

func escapeKey(raw string, length int) string {
	var b strings.Builder
	b.Grow(length)
	for i := range len(raw) {
		if c := raw[i]; keptInKey(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
	return b.String()
}

// DecodeKey reverses EncodeKey, for display. It never fails: what is not an escape stays as it is, since a token may
// come from a publisher who encodes differently or not at all.
func DecodeKey(token string) string {
	if !strings.Contains(token, "%") {
		return token
	}
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		if token[i] == '%' && i+2 < len(token) {
			high, low := unhex(token[i+1]), unhex(token[i+2])
			if high >= 0 && low >= 0 {
				b.WriteByte(byte(high<<4 | low))
				i += 2
				continue
			}
		}
		b.WriteByte(token[i])
	}
	return b.String()
}

// keptInKey reports whether EncodeKey leaves a byte alone.
func keptInKey(c byte) bool {
	switch c {
	case '.', '*', '>', '%':
		return false
	}
	return c > ' ' && c < 0x7f
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

func checkKeyLength(encoded int) error {
	if encoded > MaxKey {
		return refuse(ErrKeyTooLong, "%d bytes encoded, at most %d are allowed", encoded, MaxKey)
	}
	return nil
}

// refuse is about a message's subject or key.
func refuse(kind error, format string, args ...any) error {
	text := kind.Error() + ": " + fmt.Sprintf(format, args...)
	return admission.SubjectInvalid.Refuse("%s", text).Wrapping(kind)
}
