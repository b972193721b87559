package admission

import (
	"bytes"
	"slices"
)

const (
	preamble  = "NATS/1.0\r\n"
	separator = ": "
	lineEnd   = "\r\n"
)

// parsed is what Rebuild has read of a block so far. The slices are parts of the block.
type parsed struct {
	id, stream       []byte
	hasID, hasStream bool
	answer           bool // of a service, not a publisher's message
}

// Rebuild appends to dst a header block with exactly what it read from block, or says why the message is refused; dst
// is then returned as it was. The block must be a list of lines "Name: value", each ended by CR LF, between "NATS/1.0"
// CR LF and a final CR LF, with nothing before, after or between. Values lose outer spaces and tabs; a repeated name
// keeps its order. Nats-Expected-Stream and Nats-Msg-Id come first, in this spelling: the broker looks for names with a
// plain search that can be misled by values before them. Rebuild allocates only to grow dst.
func Rebuild(dst, block []byte) (out []byte, r *Refusal) { return rebuild(dst, block, parsed{}) }

// RebuildAnswer is Rebuild for the answer of a service to a request. Of the names that begin with Nats- it allows those
// with which services say that a request has failed, and no others.
func RebuildAnswer(dst, block []byte) (out []byte, r *Refusal) {
	return rebuild(dst, block, parsed{answer: true})
}

func rebuild(dst, block []byte, p parsed) (out []byte, r *Refusal) {
	if r := HeadersSize(len(block)); r != nil {
		return dst, r
	}
	if len(block) < len(preamble) || string(block[:len(preamble)]) != preamble {
		return dst, HeaderMalformed.Refuse("header block does not begin with a line NATS/1.0")
	}
	out = append(dst, preamble...)
	for rest := block[len(preamble):]; ; {
		if len(rest) == len(lineEnd) && string(rest) == lineEnd {
			break
		}
		var name, value []byte
		if name, value, rest, r = nextLine(rest); r != nil {
			return dst, r
		}
		if out, r = p.take(out, name, value); r != nil {
			return dst, r
		}
	}
	out = append(p.front(out, len(dst)+len(preamble)), lineEnd...)
	if r := HeadersSize(len(out) - len(dst)); r != nil {
		return dst, r
	}
	return out, nil
}

// nextLine splits the first line off a block.
func nextLine(block []byte) (name, value, rest []byte, r *Refusal) {
	n := prefix(block, inName)
	if n == 0 || n > MaxHeaderName || n == len(block) || block[n] != ':' {
		return nil, nil, nil, badLine(block)
	}
	name, rest = block[:n], block[n+1:]
	n = prefix(rest, inValue)
	value, rest = rest[:n], rest[n:]
	if len(rest) < len(lineEnd) || string(rest[:len(lineEnd)]) != lineEnd {
		return nil, nil, nil, HeaderMalformed.Refuse("value of header %s has a control character or does not end with CR LF",
			Quote(name))
	}
	return name, bytes.Trim(value, " \t"), rest[len(lineEnd):], nil
}

// badLine says what is wrong with the beginning of a line.
func badLine(block []byte) *Refusal {
	if len(block) == 0 {
		return HeaderMalformed.Refuse("header block does not end with an empty line")
	}
	line, _, _ := bytes.Cut(block, []byte("\n"))
	if len(line) <= 1 {
		return HeaderMalformed.Refuse("header block has bytes after its final empty line, or an empty line that does not " +
			"end with CR LF")
	}
	return HeaderMalformed.Refuse("header line %s does not begin with a name of 1 to %d allowed characters and a colon",
		Quote(line), MaxHeaderName)
}

// take appends a header, or keeps it back for front.
func (p *parsed) take(out, name, value []byte) ([]byte, *Refusal) {
	switch {
	case name[0]|0x20 != 'n' && name[0]|0x20 != 'l':
	case p.answer:
		if begins(name, brokerPrefix) && !isName(name, serviceError) && !isName(name, serviceErrorCode) {
			return out, HeaderNotAllowed.Refuse("header %s is not allowed in an answer", Quote(name))
		}
	case string(name) == MsgID || isName(name, MsgID):
		if p.hasID {
			return out, repeated()
		}
		p.id, p.hasID = value, true
		return out, messageID(value)
	case isName(name, ExpectedStream):
		if p.hasStream {
			return out, repeated()
		}
		p.stream, p.hasStream = value, true
		return out, nil
	default:
		if r := reserved(name); r != nil {
			return out, r
		}
	}
	return appendLine(out, name, value), nil
}

// front puts the broker's headers at an offset of a block.
func (p *parsed) front(out []byte, at int) []byte {
	n := 0
	if p.hasStream {
		n += len(ExpectedStream) + len(separator) + len(p.stream) + len(lineEnd)
	}
	if p.hasID {
		n += len(MsgID) + len(separator) + len(p.id) + len(lineEnd)
	}
	if n == 0 {
		return out
	}
	end := len(out)
	out = slices.Grow(out, n)[:end+n]
	copy(out[at+n:], out[at:end])
	gap := out[:at]
	if p.hasStream {
		gap = appendLine(gap, ExpectedStream, p.stream)
	}
	if p.hasID {
		appendLine(gap, MsgID, p.id)
	}
	return out
}

func appendLine[T string | []byte](out []byte, name T, value []byte) []byte {
	out = append(out, name...)
	out = append(out, separator...)
	out = append(out, value...)
	return append(out, lineEnd...)
}
