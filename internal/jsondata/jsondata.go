// Package jsondata is how all JSON of ours carries payloads.
package jsondata

import "unicode/utf8"

// Payload is embedded where a payload is carried: as text if it is text, else in base64.
type Payload struct {
	Data    *string `json:"data,omitempty"`
	DataB64 []byte  `json:"data_b64,omitempty"`
}

// New carries data.
func New(data []byte) Payload {
	if utf8.Valid(data) {
		text := string(data)
		return Payload{Data: &text}
	}
	return Payload{DataB64: data}
}

// Size is how many bytes the payload takes in JSON, or a little more.
func (p Payload) Size() int {
	if p.Data == nil {
		return len(p.DataB64)/3*4 + 4
	}
	size := len(*p.Data)
	for _, b := range []byte(*p.Data) {
		if b < ' ' || b == '"' || b == '\\' || b == '<' || b == '>' || b == '&' || b == 0xe2 { // 0xe2 begins U+2028.
			size += 5 // \u0001
		}
	}
	return size
}

// Bytes is the payload that is carried.
func (p Payload) Bytes() []byte {
	if p.Data != nil {
		return []byte(*p.Data)
	}
	return p.DataB64
}
