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

// Bytes is the payload that is carried.
func (p Payload) Bytes() []byte {
	if p.Data != nil {
		return []byte(*p.Data)
	}
	return p.DataB64
}
