package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"leasehold/internal/lines"
)

// form is how a request to publish carries its messages.
type form struct {
	limit  int64  // Bytes that the body may have.
	unit   string // What NewMessage.Line counts; empty for one message.
	common NewMessage
	read   func(body io.Reader) ([]NewMessage, error)

	contentType string
	query       url.Values
	request     http.Header
}

// readForm reads everything but the body, which may have so many bytes if several messages are in it.
func readForm(r *http.Request, topic TopicInfo, batch int64) (*form, error) {
	f := &form{limit: max(batch, 2*topic.MaxPayload), contentType: r.Header.Get("Content-Type"), query: r.URL.Query(), request: r.Header}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return nil, badRequest("Content-Encoding %q is not understood; send the body as it is", coding)
	}
	if err := onlyOnce(r.Header); err != nil {
		return nil, err
	}
	f.common = NewMessage{Key: f.query.Get("key"), Subject: f.query.Get("subject"), ID: r.Header.Get("Idempotency-Key"), Header: traceHeaders(r.Header)}
	if f.common.Key == "" {
		f.common.Key = r.Header.Get("Leasehold-Key")
	}
	media, _, _ := mime.ParseMediaType(f.contentType) // What cannot be read is a kind of content like any other.
	allowed := []string{"key", "subject"}
	switch {
	case media == "application/x-ndjson" || media == "application/ndjson":
		f.unit, f.read = "line", f.readLines
		allowed = append(allowed, "key_field", "id_field")
	case media == "application/cloudevents+json":
		f.read = f.readEvent
	case media == "application/cloudevents-batch+json":
		f.unit, f.read = "event", f.readEvents
	case strings.HasPrefix(media, "application/cloudevents"):
		return nil, badRequest("content type %q is not understood; events come as application/cloudevents+json, as -batch+json, or in binary mode", media)
	default:
		f.limit, f.read = topic.MaxPayload, f.readOne
	}
	return f, f.check(allowed, r)
}

// onlyOnce refuses a header of which only one could count: callers and proxies disagree on which.
func onlyOnce(h http.Header) error {
	for name, values := range h {
		switch {
		case len(values) < 2:
		case name == "Leasehold-Key", name == "Idempotency-Key", name == "Content-Type", name == "Traceparent", strings.HasPrefix(name, "Ce-"):
			return badRequest("header %s is given %d times; give it once", name, len(values))
		}
	}
	return nil
}

// check refuses what would be passed over in silence.
func (f *form) check(allowed []string, r *http.Request) error {
	for name, values := range f.query {
		switch {
		case !slices.Contains(allowed, name):
			return badRequest("parameter %q is not one of %s for this content type", name, strings.Join(allowed, ", "))
		case len(values) > 1:
			return badRequest("parameter %q is given %d times", name, len(values))
		}
	}
	if key, inHeader := f.query.Get("key"), r.Header.Get("Leasehold-Key"); key != "" && inHeader != "" && key != inHeader {
		return badRequest("parameter key is %q and header Leasehold-Key is %q; give one of them", key, inHeader)
	}
	if f.query.Has("key_field") && (f.common.Key != "" || f.common.Subject != "") {
		return badRequest("key_field and a key or subject for all exclude each other")
	}
	if r.ContentLength > f.limit {
		return f.tooLarge()
	}
	return nil
}

func (f *form) tooLarge() error {
	if f.unit == "" {
		return Mark(ErrTooLarge, fmt.Sprintf("the body has more than %d bytes", f.limit))
	}
	return Mark(ErrTooLarge, fmt.Sprintf("the body has more than %d bytes: send it in several requests", f.limit))
}

// failed makes an error of what went wrong in reading the body.
func (f *form) failed(err error) error {
	var tooLarge *http.MaxBytesError
	var m *marked
	switch {
	case errors.As(err, &tooLarge):
		return f.tooLarge()
	case errors.As(err, &m):
		return err
	}
	return badRequest("read the body: %s", err)
}

// blame names the message that an error is about.
func (f *form) blame(messages []NewMessage, err error) error {
	var e *MessageError
	if f.unit == "" || !errors.As(err, &e) {
		return err
	}
	return f.at(messages[e.Index].Line, err)
}

// at says where in the body something is wrong.
func (f *form) at(line int, err error) error {
	kind := ErrBadRequest
	if errors.Is(err, ErrTooLarge) {
		kind = ErrTooLarge
	}
	return &marked{kind: kind, text: fmt.Sprintf("%s %d: %s; nothing was published", f.unit, line, plain(err)), cause: err}
}

// readOne takes the body as it is: one message of any content, a CloudEvent in binary mode too.
func (f *form) readOne(body io.Reader) ([]NewMessage, error) {
	m := f.common
	if f.contentType != "" {
		m.Header["Content-Type"] = []string{f.contentType}
	}
	if err := addBinaryEvent(&m, f.request); err != nil {
		return nil, err
	}
	var err error
	if m.Data, err = io.ReadAll(body); err != nil {
		return nil, f.failed(err)
	}
	return []NewMessage{m}, nil
}

// readLines takes one message a line.
func (f *form) readLines(body io.Reader) ([]NewMessage, error) {
	in := lines.NewReader(body, lines.Options{
		Key: f.common.Key, KeyField: f.query.Get("key_field"), IDField: f.query.Get("id_field"), MaxLine: int(f.limit),
	})
	f.common.Header["Content-Type"] = []string{"application/json"}
	var all []NewMessage
	for {
		r, err := in.Next()
		if errors.Is(err, io.EOF) {
			return all, f.notEmpty(all)
		}
		if err != nil {
			return nil, f.failed(err)
		}
		if r.Err != nil {
			return nil, f.at(r.Line, r.Err)
		}
		m := f.common
		m.Line, m.Key, m.ID, m.Data = r.Line, r.Key, r.ID, r.Data
		if m.ID == "" && f.common.ID != "" {
			m.ID = fmt.Sprintf("%s/%d", f.common.ID, r.Line)
		}
		if all, err = f.add(all, m); err != nil {
			return nil, err
		}
	}
}

// readEvent takes one CloudEvent in the JSON format.
func (f *form) readEvent(body io.Reader) ([]NewMessage, error) {
	var event map[string]json.RawMessage
	decoder := json.NewDecoder(body)
	if err := decoder.Decode(&event); err != nil {
		return nil, f.notJSON(err, "one JSON object")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, badRequest("something follows the event; several of them are application/cloudevents-batch+json")
	}
	m := f.common
	if err := addEvent(&m, event); err != nil {
		return nil, err
	}
	return []NewMessage{m}, nil
}

// readEvents takes a JSON array of CloudEvents, one after the other.
func (f *form) readEvents(body io.Reader) ([]NewMessage, error) {
	const array = "a JSON array of events"
	decoder := json.NewDecoder(body)
	if token, err := decoder.Token(); err != nil || token != json.Delim('[') {
		return nil, f.notJSON(err, array)
	}
	f.common.ID = "" // Events have ids of their own, and one for all would be none.
	var all []NewMessage
	for n := 1; decoder.More(); n++ {
		var event map[string]json.RawMessage
		if err := decoder.Decode(&event); err != nil {
			return nil, f.notJSON(err, array)
		}
		m := f.common
		m.Line = n
		err := addEvent(&m, event)
		if err != nil {
			return nil, f.at(n, err)
		}
		if all, err = f.add(all, m); err != nil {
			return nil, err
		}
	}
	if _, err := decoder.Token(); err != nil {
		return nil, f.notJSON(err, array)
	}
	return all, f.notEmpty(all)
}

func (f *form) notJSON(err error, want string) error {
	var tooLarge *http.MaxBytesError
	var m *marked
	if errors.As(err, &tooLarge) || errors.As(err, &m) {
		return f.failed(err)
	}
	text := "the body is not " + want
	if err != nil {
		text += ": " + err.Error()
	}
	return badRequest("%s", text)
}

func (f *form) add(all []NewMessage, m NewMessage) ([]NewMessage, error) {
	if len(all) == maxBatch {
		return nil, Mark(ErrTooLarge, fmt.Sprintf("the body has more than %d messages: send it in several requests", maxBatch))
	}
	return append(all, m), nil
}

func (f *form) notEmpty(all []NewMessage) error {
	if len(all) == 0 {
		return badRequest("there is no message in the body")
	}
	return nil
}

// traceHeaders are the headers of a request that go with every message of it. The map is the caller's to add to.
func traceHeaders(h http.Header) map[string][]string {
	kept := map[string][]string{}
	for _, name := range []string{"traceparent", "tracestate"} {
		if values := h.Values(name); len(values) > 0 {
			kept[name] = values
		}
	}
	return kept
}
