package jsondata

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// ErrEncoding: text is not UTF-8. The error that wraps it says what to do.
var ErrEncoding = errors.New("not UTF-8")

// bom is UTF-8's byte order mark, which some programs write at the start of a file or stream.
var bom = []byte("\ufeff")

// TrimBOM returns the text without a byte order mark at its start. Only the start of a file, body or stream may have
// one.
func TrimBOM(text []byte) []byte { return bytes.TrimPrefix(text, bom) }

// CheckEncoding refuses text that is not UTF-8, and names the first byte that is not.
func CheckEncoding(text []byte) error {
	if utf8.Valid(text) {
		return nil
	}
	at := 0
	for at < len(text) {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return fmt.Errorf("%w: byte %d is 0x%02x; convert the text to UTF-8, for example with `iconv -f LATIN1 -t UTF-8`",
		ErrEncoding, at+1, text[at])
}

// CheckStart refuses a text that begins as UTF-16 or UTF-32 does: with their byte order mark, or with a NUL among its
// first bytes, as ASCII has it in them. start is the beginning of the text; four bytes of it are looked at.
func CheckStart(start []byte) error {
	start = start[:min(len(start), 4)]
	if bytes.HasPrefix(start, []byte{0xff, 0xfe}) || bytes.HasPrefix(start, []byte{0xfe, 0xff}) ||
		bytes.IndexByte(start, 0) >= 0 {
		return fmt.Errorf("%w: it looks like UTF-16 or UTF-32; convert it to UTF-8, for example with `iconv -f UTF-16 -t "+
			"UTF-8`", ErrEncoding)
	}
	return nil
}
