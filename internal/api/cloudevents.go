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
	"time"
	"unicode/utf8"

	"leasehold/internal/admission"
	"leasehold/internal/jsondata"
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
	for name := range request {
		lower := strings.ToLower(name)
		attribute, ok := strings.CutPrefix(lower, cePrefix)
		if !ok {
			continue
		}
		value, err := single(request, name)
		if err == nil {
			value, err = decodeAttribute(lower, value)
		}
		if err != nil {
			return err
		}
		m.Header[lower] = []string{encodeAttribute(value)}
		attributes[attribute] = value
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
		value, err := attributeText(name, raw)
		if err != nil {
			return err
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
func attributeText(name string, raw json.RawMessage) (string, error) {
	switch raw[0] {
	case 'n':
		return "", nil
	case '{', '[':
		return "", badRequest("attribute %q is not text, a number or a boolean", name)
	case '"':
		text, err := jsondata.Text(raw)
		if err != nil {
			return "", badRequest("attribute %q %s", name, err)
		}
		return text, nil
	}
	return string(raw), nil // As it is written: 1.50 stays 1.50.
}

func checkEvent(attributes map[string]string) error {
	for _, name := range []string{"specversion", "id", "source", "type"} {
		if attributes[name] == "" {
			return badRequest("the event has no attribute %q", name)
		}
	}
	if v := attributes["specversion"]; v != "1.0" {
		return badRequest("CloudEvents specversion %q is not supported, only 1.0 is", v)
	}
	if v, ok := attributes["time"]; ok && !isTime(v) {
		return badRequest("attribute \"time\": %q is not a time of RFC 3339, like 2026-01-02T15:04:05Z", v)
	}
	return nil
}

// isTime reports whether a text is a time of RFC 3339, which may have a leap second and lower-case letters.
func isTime(text string) bool {
	text = strings.ToUpper(text)
	if len(text) > 19 && text[16:19] == ":60" {
		text = text[:16] + ":59" + text[19:]
	}
	return new(time.Time).UnmarshalText([]byte(text)) == nil
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

// addEventData makes the payload: JSON as it is written, null too; other content as the text or bytes that it stands
// for.
func addEventData(m *NewMessage, event map[string]json.RawMessage, contentType string) error {
	data, hasData := event["data"]
	encoded, hasBytes := event["data_base64"]
	switch {
	case hasData && hasBytes:
		return badRequest("the event has both data and data_base64")
	case hasBytes && (encoded[0] != '"' || json.Unmarshal(encoded, &m.Data) != nil):
		return badRequest("data_base64 is not base64")
	case hasData && !isJSON(contentType) && data[0] == '"':
		text, err := jsondata.Text(data)
		if err != nil {
			return badRequest("data %s", err)
		}
		m.Data = []byte(text)
	case hasData:
		m.Data = data
		if contentType == "" {
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

// encodeAttribute writes a value for a header, as the bindings say: what is no visible ASCII, the quotation mark and
// the percent sign become %XX.
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

// decodeAttribute is what the value of a header stands for: the HTTP binding has quotes undone first, then percent
// signs, once, and what is not UTF-8 refused (3.1.3.2). A percent sign that encodes nothing is refused as well: "50%"
// and "50%25" must not be two spellings of one key.
func decodeAttribute(name, value string) (string, error) {
	plain, err := unquote(value)
	if err != nil {
		return "", badRequest("header %s: %s", name, err)
	}
	text, err := url.PathUnescape(plain)
	if err != nil {
		return "", badRequest("header %s: %s; a percent sign is written %%25", name, err)
	}
	if !utf8.ValidString(text) {
		return "", badRequest("header %s is not UTF-8 after decoding", name)
	}
	return text, nil
}
