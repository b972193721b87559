package jsondata

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Why a text is not the JSON that it should be. Errors wrap these.
var (
	ErrNotJSON   = errors.New("not JSON")
	ErrTruncated = errors.New("unexpected end of JSON")
	ErrTrailing  = errors.New("unexpected text after the JSON value")
	ErrNotObject = errors.New("not a JSON object")
	ErrNotArray  = errors.New("not a JSON array")
	ErrNotText   = errors.New("not a JSON string")
	// ErrSurrogate: an escape like \ud83d without its other half stands for no character. Decoders replace it, so that two
	// different texts would become the same one.
	ErrSurrogate = errors.New("contains an unpaired surrogate")
	// ErrRepeated: which value counts would depend on the reader.
	ErrRepeated = errors.New("appears twice")
)

// Check refuses a text that is not exactly one JSON value in UTF-8.
func Check(text []byte) error {
	if utf8.Valid(text) && json.Valid(text) {
		return nil
	}
	return whyNot(text)
}

// whyNot is what is wrong with a text that is not one JSON value in UTF-8.
func whyNot(text []byte) error {
	if err := CheckEncoding(text); err != nil {
		return err
	}
	if bytes.HasPrefix(text, bom) {
		return fmt.Errorf("%w: it begins with a byte order mark", ErrNotJSON)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	var value json.RawMessage
	switch err := d.Decode(&value); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ErrTruncated
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNotJSON, err)
	}
	return fmt.Errorf("%w: %s", ErrTrailing, quoted(bytes.TrimLeft(text[d.InputOffset():], blanks)))
}

// blanks are what may stand between JSON's tokens.
const blanks = " \t\r\n"

// quoted is the beginning of a text, for an error.
func quoted(text []byte) string {
	const most = 20
	r := []rune(string(text))
	if len(r) > most {
		return strconv.Quote(string(r[:most])) + "…"
	}
	return strconv.Quote(string(r))
}

// Object takes a text that is exactly one JSON object apart. The values are parts of the text, as they are written
// there.
func Object(text []byte) (map[string]json.RawMessage, error) {
	in, err := open(text, '{', ErrNotObject)
	if err != nil {
		return nil, err
	}
	fields := map[string]json.RawMessage{}
	for in.more('}') {
		name, err := Text(in.value())
		if err != nil {
			return nil, fmt.Errorf("name of a field %w", err)
		}
		in.skip(':')
		value := in.value()
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("field %q %w", name, ErrRepeated)
		}
		fields[name] = value
	}
	return fields, nil
}

// Array takes a text that is exactly one JSON array apart, as Object does. What follows the first so many elements is
// left out.
func Array(text []byte, most int) (elements []json.RawMessage, err error) {
	in, err := open(text, '[', ErrNotArray)
	if err != nil {
		return nil, err
	}
	for len(elements) < most && in.more(']') {
		elements = append(elements, in.value())
	}
	return elements, nil
}

// Text is the string that a JSON value stands for.
func Text(value json.RawMessage) (string, error) {
	var text string
	switch {
	case len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &text) != nil:
		return "", ErrNotText
	case hasLoneSurrogate(value):
		return "", ErrSurrogate
	}
	return text, nil
}

// hasLoneSurrogate looks for an escape in JSON that is half of a surrogate pair.
func hasLoneSurrogate(value []byte) bool {
	for i := 0; i < len(value); i++ {
		if value[i] != '\\' {
			continue
		}
		first := unit(value[i:])
		switch {
		case !utf16.IsSurrogate(first):
			i++ // Over what is escaped: it may be another backslash.
		case utf16.DecodeRune(first, unit(value[i+6:])) == '\ufffd':
			return true
		default:
			i += 11
		}
	}
	return false
}

// unit is the UTF-16 code unit of the \uXXXX that a text begins with, 0 if it begins with something else.
func unit(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0
	}
	n, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return 0
	}
	return rune(n)
}
