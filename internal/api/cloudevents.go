package api

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"leasehold/internal/admission"
)

// CloudEvents 1.0 (github.com/cloudevents/spec): an event is stored as its NATS binding has it in binary mode, whatever
// mode it came in. The data is the payload, datacontenttype the header Content-Type, and every other attribute a header
// "ce-" and its name.

const cePrefix = "ce-"

// attributeName is what the specification lets attributes be called.
var attributeName = regexp.MustCompile(`^[a-z0-9]+$`)

// addBinaryEvent gives a message the attributes that are headers of its request. A request without ce-specversion is no
// event; its ce- headers are kept and its ce-partitionkey is a key all the same.
func addBinaryEvent(m *NewMessage, request http.Header) error {
	m.Header = maps.Clone(m.Header)
	attributes := map[string]string{}
	for name, values := range request {
		lower := strings.ToLower(name)
		if attribute, ok := strings.CutPrefix(lower, cePrefix); ok {
			m.Header[lower] = values
			attributes[attribute] = decodeAttribute(strings.Join(values, ","))
		}
	}
	if _, ok := attributes["specversion"]; ok {
		if err := checkEvent(attributes); err != nil {
			return err
		}
	}
	useAttributes(m, attributes)
	return nil
}

// addEvent gives a message what an event in the JSON format holds.
func addEvent(m *NewMessage, event map[string]json.RawMessage) error {
	m.Header = maps.Clone(m.Header)
	attributes := map[string]string{}
	for name, raw := range event {
		if name == "data" || name == "data_base64" {
			continue
		}
		if !attributeName.MatchString(name) {
			return badRequest("attribute %q: names are lower-case letters and digits", name)
		}
		value, ok := attributeText(raw)
		if !ok {
			return badRequest("attribute %q is no text, number or boolean", name)
		}
		if value == "" {
			continue
		}
		attributes[name] = value
		if name != "datacontenttype" {
			m.Header[cePrefix+name] = []string{encodeAttribute(value)}
		}
	}
	if err := checkEvent(attributes); err != nil {
		return err
	}
	if err := addEventData(m, event, attributes["datacontenttype"]); err != nil {
		return err
	}
	useAttributes(m, attributes)
	return nil
}

// attributeText spells an attribute's value; an absent one is "".
func attributeText(raw json.RawMessage) (string, bool) {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return "", false
	}
	switch v := v.(type) {
	case nil:
		return "", true
	case string:
		return v, true
	case bool, float64:
		return string(raw), true // As it is written: 1.50 stays 1.50.
	}
	return "", false
}

func checkEvent(attributes map[string]string) error {
	for _, name := range []string{"specversion", "id", "source", "type"} {
		if attributes[name] == "" {
			return badRequest("the event has no attribute %q", name)
		}
	}
	if v := attributes["specversion"]; v != "1.0" {
		return badRequest("CloudEvents specversion %q is not understood, only 1.0 is", v)
	}
	return nil
}

// useAttributes takes key and message id from an event, as far as the request does not say them. A source has no space
// in it once encoded, so no two events share an id unless they are the same.
func useAttributes(m *NewMessage, attributes map[string]string) {
	if m.Key == "" && m.Subject == "" {
		m.Key = attributes["partitionkey"]
	}
	if m.ID == "" && attributes["id"] != "" && attributes["source"] != "" {
		m.ID = eventID(attributes)
	}
}

// eventID is the message id of an event. One that would be too long stands in by its hash.
func eventID(attributes map[string]string) string {
	id := encodeAttribute(attributes["source"]) + " " + encodeAttribute(attributes["id"])
	if len(id) > admission.MaxMsgID {
		return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(id)))
	}
	return id
}

// addEventData makes the payload: JSON as it is written, other content as the text or bytes that it stands for.
func addEventData(m *NewMessage, event map[string]json.RawMessage, contentType string) error {
	if raw, ok := event["data_base64"]; ok {
		if _, both := event["data"]; both {
			return badRequest("the event has both data and data_base64")
		}
		if err := json.Unmarshal(raw, &m.Data); err != nil {
			return badRequest("data_base64 is not base64")
		}
	} else if raw, ok := event["data"]; ok && string(raw) != "null" {
		m.Data = raw
		if !isJSON(contentType) {
			var text string
			if json.Unmarshal(raw, &text) == nil {
				m.Data = []byte(text)
			}
		} else if contentType == "" {
			contentType = "application/json"
		}
	}
	if contentType != "" {
		m.Header["Content-Type"] = []string{contentType}
	}
	return nil
}

// isJSON reports whether content of a type is JSON; so is content of no type, by the JSON format's rule.
func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return contentType == "" || err == nil && (strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json"))
}

// encodeAttribute writes a value for a header, as the bindings say: what is no visible ASCII, the quotation mark and the
// percent sign become %XX.
func encodeAttribute(value string) string {
	var b strings.Builder
	for i := range len(value) {
		if c := value[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// decodeAttribute reverses encodeAttribute. What is not encoded stays as it is.
func decodeAttribute(value string) string {
	if text, err := url.PathUnescape(value); err == nil {
		return text
	}
	return value
}
