package jsondata

import (
	"encoding/json"
	"strings"
)

// inside goes through what the outermost brackets of a JSON text hold. The text is known to be valid: that is what lets
// it look at brackets and quotation marks only.
type inside struct {
	text []byte
	at   int
}

// open checks a text and goes behind its first bracket.
func open(text []byte, bracket byte, wrong error) (*inside, error) {
	if err := Check(text); err != nil {
		return nil, err
	}
	in := &inside{text: text}
	in.blanks()
	if text[in.at] != bracket {
		return nil, wrong
	}
	in.at++
	return in, nil
}

func (in *inside) blanks() {
	for in.at < len(in.text) && strings.IndexByte(blanks, in.text[in.at]) >= 0 {
		in.at++
	}
}

// skip goes behind a character, if it is the next one.
func (in *inside) skip(c byte) {
	in.blanks()
	if in.text[in.at] == c {
		in.at++
	}
}

// more goes to the next member; false at the closing bracket.
func (in *inside) more(bracket byte) bool {
	in.skip(',')
	in.blanks()
	return in.text[in.at] != bracket
}

// value is the next value, as a part of the text.
func (in *inside) value() json.RawMessage {
	in.blanks()
	start := in.at
	switch in.text[start] {
	case '"':
		in.quoted()
	case '{', '[':
		in.nested()
	default:
		for in.at < len(in.text) && strings.IndexByte(blanks+",]}", in.text[in.at]) < 0 {
			in.at++
		}
	}
	return in.text[start:in.at:in.at]
}

// quoted goes behind a string.
func (in *inside) quoted() {
	for in.at++; in.text[in.at] != '"'; in.at++ {
		if in.text[in.at] == '\\' {
			in.at++
		}
	}
	in.at++
}

// nested goes behind an object or array.
func (in *inside) nested() {
	for depth := 0; ; {
		switch in.text[in.at] {
		case '"':
			in.quoted()
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		in.at++
		if depth == 0 {
			return
		}
	}
}
