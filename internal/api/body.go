package api

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"leasehold/internal/jsondata"
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
	f := &form{limit: max(batch, 2*topic.MaxPayload), query: r.URL.Query(), request: r.Header}
	if err := f.readHead(r.Header); err != nil {
		return nil, err
	}
	media, err := mediaType(f.contentType)
	if err != nil {
		return nil, err
	}
	allowed := []string{"key", "subject"}
	switch {
	case media == "application/x-ndjson" || media == "application/ndjson":
		f.unit, f.read = "line", f.readLines
		allowed = append(allowed, "key_field", "id_field")
	case media == "application/cloudevents+json":
		f.read = f.readEvent
	case media == "application/cloudevents-batch+json":
		f.unit, f.read = "event", f.readEvents
	case strings.HasPrefix(media, eventMedia):
		return nil, badRequest("content type %q is not supported; events come as application/cloudevents+json, as "+
			"-batch+json, or in binary mode", media)
	default:
		f.limit, f.read = topic.MaxPayload, f.readOne
	}
	return f, f.check(allowed, r)
}

// readHead reads the headers that are about the message, each of which may stand there once.
func (f *form) readHead(h http.Header) (err error) {
	one := func(name string) (value string) {
		if err == nil {
			value, err = single(h, name)
		}
		return value
	}
	f.contentType = strings.Join(h.Values("Content-Type"), ",")
	coding, key, id := one("Content-Encoding"), one("Leasehold-Key"), one("Idempotency-Key")
	one("Traceparent")
	switch {
	case err != nil:
		return err
	case len(h.Values("Content-Type")) > 1:
		return badRequest("header Content-Type is given %d times", len(h.Values("Content-Type")))
	case coding != "" && coding != "identity":
		return badRequest("Content-Encoding %q is not supported; send the body without an encoding", coding)
	case key != "" && f.query.Has("key") && f.query.Get("key") != key:
		return badRequest("parameter key is %q and header Leasehold-Key is %q; give one of them", f.query.Get("key"), key)
	}
	if id, err = unquote(id); err != nil {
		return badRequest("header Idempotency-Key: %s", err)
	}
	if id == "" && len(h.Values("Idempotency-Key")) > 0 {
		return badRequest("header Idempotency-Key is empty: give it a value or leave it out")
	}
	f.common = NewMessage{Key: cmp.Or(f.query.Get("key"), key), Subject: f.query.Get("subject"), ID: id,
		Header: traceHeaders(h)}
	return nil
}

// eventMedia is how the media types of events in one of the formats begin.
const eventMedia = "application/cloudevents"

// mediaType is a content type without its parameters. Of what is read as text here, it refuses another encoding than
// UTF-8 and what cannot be parsed; everything else is kept as it is.
func mediaType(contentType string) (string, error) {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	if !strings.HasSuffix(media, "ndjson") && !strings.HasPrefix(media, eventMedia) {
		return media, nil
	}
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return "", badRequest("cannot parse content type %q: %s", contentType, err)
	}
	if charset := strings.ToLower(params["charset"]); charset != "" && charset != "utf-8" && charset != "us-ascii" {
		return "", badRequest("content type %q: charset %s is not supported; send UTF-8", contentType, charset)
	}
	return media, nil
}

// check refuses what would be passed over in silence.
func (f *form) check(allowed []string, r *http.Request) error {
	if err := checkParams(f.query, allowed); err != nil {
		return badRequest("%s for this content type", plain(err))
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
		JSON: true, // It is what the messages are said to be.
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
	text, err := f.readText(body)
	if err != nil {
		return nil, err
	}
	event, err := jsondata.Object(text)
	if errors.Is(err, jsondata.ErrTrailing) {
		return nil, badRequest("the body is not one event: %s; several events are an array, as "+
			"application/cloudevents-batch+json", err)
	}
	if err != nil {
		return nil, badRequest("the body is not one JSON object: %s", err)
	}
	m := f.common
	if err := addEvent(&m, event); err != nil {
		return nil, err
	}
	return []NewMessage{m}, nil
}

// readEvents takes a JSON array of CloudEvents, one after the other.
func (f *form) readEvents(body io.Reader) ([]NewMessage, error) {
	text, err := f.readText(body)
	if err != nil {
		return nil, err
	}
	elements, err := jsondata.Array(text, maxBatch+1) // One more shows that there are too many.
	if err != nil {
		return nil, badRequest("the body is not a JSON array of events: %s", err)
	}
	f.common.ID = "" // Events have ids of their own, and one for all would be none.
	var all []NewMessage
	for i, element := range elements {
		m := f.common
		m.Line = i + 1
		event, err := jsondata.Object(element)
		if err == nil {
			err = addEvent(&m, event)
		}
		if err != nil {
			return nil, f.at(m.Line, err)
		}
		if all, err = f.add(all, m); err != nil {
			return nil, err
		}
	}
	return all, f.notEmpty(all)
}

// readText reads a body that is one text, without its byte order mark.
func (f *form) readText(body io.Reader) ([]byte, error) {
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, f.failed(err)
	}
	if err := jsondata.CheckStart(text); err != nil {
		return nil, badRequest("the body is %s", err)
	}
	return jsondata.TrimBOM(text), nil
}

func (f *form) add(all []NewMessage, m NewMessage) ([]NewMessage, error) {
	if len(all) == maxBatch {
		return nil, Mark(ErrTooLarge, fmt.Sprintf("the body has more than %d messages: send it in several requests",
			maxBatch))
	}
	return append(all, m), nil
}

func (f *form) notEmpty(all []NewMessage) error {
	if len(all) == 0 {
		return badRequest("the body has no message")
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
