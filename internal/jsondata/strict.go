package jsondata

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
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
	if rest := bytes.TrimLeft(text[d.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return fmt.Errorf("%w: %s", ErrTrailing, quoted(rest))
	}
	return nil
}

// quoted is the beginning of a text, for an error.
func quoted(text []byte) string {
	const most = 20
	r := []rune(string(text))
	if len(r) > most {
		return strconv.Quote(string(r[:most])) + "…"
	}
	return strconv.Quote(string(r))
}

// Object takes a text that is exactly one JSON object apart. The values are parts of the text, as they are written there.
func Object(text []byte) (map[string]json.RawMessage, error) {
	fields := map[string]json.RawMessage{}
	err := inside(text, '{', ErrNotObject, func(d *json.Decoder) error {
		start := d.InputOffset()
		name, err := d.Token()
		if err != nil {
			return err
		}
		key := name.(string) // The grammar has been checked.
		if hasLoneSurrogate(text[start:d.InputOffset()]) {
			return fmt.Errorf("name of a field %w", ErrSurrogate)
		}
		if _, twice := fields[key]; twice {
			return fmt.Errorf("field %q %w", key, ErrRepeated)
		}
		fields[key], err = next(d, text)
		return err
	})
	if err != nil {
		return nil, err
	}
	return fields, nil
}

// Array takes a text that is exactly one JSON array apart, as Object does. What follows the first so many elements is
// left out.
func Array(text []byte, most int) (elements []json.RawMessage, err error) {
	err = inside(text, '[', ErrNotArray, func(d *json.Decoder) error {
		element, err := next(d, text)
		if len(elements) == most {
			return err
		}
		elements = append(elements, element)
		return err
	})
	return elements, err
}

// inside checks a text and goes through what its outermost brackets hold.
func inside(text []byte, bracket json.Delim, wrong error, each func(*json.Decoder) error) error {
	if err := Check(text); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if token, _ := d.Token(); token != bracket {
		return wrong
	}
	for d.More() {
		if err := each(d); err != nil {
			return err
		}
	}
	return nil
}

// next is the decoder's next value as a part of the text that it reads.
func next(d *json.Decoder, text []byte) (json.RawMessage, error) {
	var value json.RawMessage
	if err := d.Decode(&value); err != nil {
		return nil, err
	}
	end := int(d.InputOffset())
	return text[end-len(value) : end : end], nil
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
