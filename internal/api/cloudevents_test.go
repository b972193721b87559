package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"leasehold/internal/admission"
)

// binary is a request in binary mode with the attributes that an event must have, and some more.
func binary(pairs ...string) post {
	h := map[string]string{"ce-specversion": "1.0", "ce-id": "e1", "ce-source": "/s", "ce-type": "t"}
	for i := 0; i < len(pairs); i += 2 {
		h[pairs[i]] = pairs[i+1]
	}
	return post{header: h, body: "x"}
}

// structured is a request with an event in the JSON format, and more of its attributes.
func structured(more string) post {
	return post{query: "?key=k", contentType: event, body: `{"specversion":"1.0","id":"e1","source":"/s","type":"t"` +
		more + `}`}
}

// only sends a post and returns the message that it became.
func only(t *testing.T, p post) NewMessage {
	t.Helper()
	f := &fakeMessages{}
	_, socket := serveMessages(t, f, "")
	resp, body := p.send(t, socket)
	if resp.StatusCode != http.StatusOK || len(f.got) != 1 {
		t.Fatalf("%+v: got %s, %q", p, resp.Status, body.Error)
	}
	return f.got[0]
}

func TestQuotesMakeNoDifferenceToAnEvent(t *testing.T) {
	want := only(t, binary("ce-partitionkey", "c-17", "ce-subject", "a%20b"))
	for _, p := range []post{
		binary("ce-partitionkey", `"c-17"`, "ce-subject", `"a b"`),
		binary("ce-partitionkey", `c%2D17`, "ce-subject", `"a%20b"`, "ce-specversion", `"1.0"`, "ce-id", `"e1"`, "ce-source",
			`"\/s"`),
	} {
		if got := only(t, p); !reflect.DeepEqual(got, want) {
			t.Errorf("%v:\ngot  %+v\nwant %+v", p.header, got, want)
		}
	}
	if got := only(t, binary("ce-partitionkey", "Zürich", "ce-x", `"say \"hi\""`)); got.Key != "Zürich" ||
		got.Header["ce-partitionkey"][0] != "Z%C3%BCrich" || got.Header["ce-x"][0] != "say%20%22hi%22" {
		t.Errorf("got %+v", got)
	}
}

func TestHeadersOfEventsAreReadWholeOrRefused(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"ce-partitionkey", "%FF%FE", "not UTF-8"},
		{"ce-partitionkey", "M\xfcller", "not UTF-8"},
		{"ce-id", "%ED%A0%80", "not UTF-8"}, // A surrogate.
		{"ce-partitionkey", "50%", "%25"},
		{"ce-subject", "50% a%20b", "%25"},
		{"ce-id", `"e1`, "closing quotation mark"},
		{"ce-source", `"/s" x`, "unexpected text"},
		{"ce-time", "yesterday", "RFC 3339"},
		{"ce-time", "2026-02-30T00:00:00Z", "RFC 3339"},
		{"ce-time", "2026-01-02", "RFC 3339"},
		{"ce-specversion", `"0.3"`, "0.3"},
	} {
		p := binary("ce-partitionkey", "k")
		p.header[c.name] = c.value
		f := &fakeMessages{}
		_, socket := serveMessages(t, f, "")
		if resp, body := p.send(t, socket); resp.StatusCode != http.StatusBadRequest ||
			!strings.Contains(body.Error, c.want) || f.got != nil {
			t.Errorf("%s: %q: got %s, %q; want %q", c.name, c.value, resp.Status, body.Error, c.want)
		}
	}
}

func TestHeadersThatCountOnceMustStandThereOnce(t *testing.T) {
	for _, name := range []string{"Idempotency-Key", "Leasehold-Key", "Content-Type", "Content-Encoding", "Traceparent",
		"ce-id", "ce-partitionkey"} {
		r, err := http.NewRequest("POST", "http://agent/", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Add(name, "identity")
		r.Header.Add(name, "identity")
		form, err := readForm(r, TopicInfo{MaxPayload: 1024}, maxBatchBytes)
		if err == nil {
			_, err = form.read(r.Body)
		}
		if err == nil || codeOf(err) != http.StatusBadRequest || !strings.Contains(err.Error(), "2 times") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAnIdempotencyKeyMayBeQuoted(t *testing.T) {
	only(t, post{query: "?key=k", body: "x", header: map[string]string{"Leasehold-Key": "k"}})
	for value, want := range map[string]string{"x-1": "x-1", `"x-1"`: "x-1", `"a\"b"`: `a"b`} {
		if got := only(t, post{query: "?key=k", body: "x",
			header: map[string]string{"Idempotency-Key": value}}); got.ID != want {
			t.Errorf("%s: got %q", value, got.ID)
		}
	}
	for _, h := range []map[string]string{{"Idempotency-Key": `"x`}, {"Idempotency-Key": `"x";a=1`},
		{"Idempotency-Key": `""`}, {"Idempotency-Key": ""}, {"Idempotency-Key": "M\xfcller"}, {"Leasehold-Key": "M\xfcller"},
		{"Leasehold-Key": "other"}} {
		_, socket := serveMessages(t, &fakeMessages{}, "")
		resp, body := post{query: "?key=k", body: "x", header: h}.send(t, socket)
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: got %s, %q", h, resp.Status, body.Error)
		}
	}
}

func TestDataOfEventsIsWhatItSays(t *testing.T) {
	for more, want := range map[string]string{
		`,"data":null`: "null",
		`,"data":null,"datacontenttype":"text/plain"`: "null",
		``:                 "",
		`,"data":"x"`:      `"x"`,
		`,"data":"\ud83d"`: `"\ud83d"`, // As it is written: it is JSON, and no key.
		`,"data":"x","datacontenttype":"text/plain"`:      "x",
		`,"data":{"a": 1},"datacontenttype":"text/plain"`: `{"a": 1}`,
		`,"data_base64":"/wA="`:                           "\xff\x00",
		`,"time":"1990-12-31t23:59:60z"`:                  "",
		`,"time":"1985-04-12T23:20:50.52+01:30"`:          "",
		`,"time":null,"subject":""`:                       "",
	} {
		if got := only(t, structured(more)); string(got.Data) != want {
			t.Errorf("%s: got %q", more, got.Data)
		}
	}
}

func TestEventsAreReadWholeOrRefused(t *testing.T) {
	const good = `{"specversion":"1.0","id":"e1","source":"/s","type":"t","partitionkey":"k"}`
	for _, c := range []struct{ body, want string }{
		{`{"specversion":"1.0","id":"` + "M\xfcller" + `","source":"/s","type":"t","partitionkey":"k"}`, "not UTF-8"},
		{`{"specversion":"1.0","id":"\ud83d","source":"/s","type":"t","partitionkey":"k"}`, `\"id\" contains an unpaired`},
		{`{"specversion":"1.0","id":"e1","source":"/s","type":"t","partitionkey":"\udc00k"}`,
			`\"partitionkey\" contains an unpaired`},
		{`{"specversion":"1.0","id":"e1","id":"e2","source":"/s","type":"t","partitionkey":"k"}`, "appears twice"},
		{`{"specversion":"1.0","id":"e1","source":"/s","type":"t","partitionkey":"k","time":"yesterday"}`, "RFC 3339"},
		{`{"specversion":"1.0","id":"e1","source":"/s","type":"t","partitionkey":"k","data_base64":null}`, "not base64"},
		{`{"specversion":"1.0","id":"e1","source":"/s","type":"t","partitionkey":"k",` +
			`"datacontenttype":"text/plain","data":"\ud83d"}`, "unpaired surrogate"},
		{good + `{}`, ""}, {good + `,`, ""}, {good + ` // c`, ""}, {good + "\x00", ""},
	} {
		for contentType, body := range map[string]string{event: c.body, events: "[" + good + ",\n" + c.body + "]"} {
			f := &fakeMessages{}
			_, socket := serveMessages(t, f, "")
			resp, answer := post{contentType: contentType, body: body}.send(t, socket)
			text, _ := json.Marshal(answer.Error)
			if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), c.want) || f.got != nil {
				t.Errorf("%s: got %s, %q; want %q", body, resp.Status, answer.Error, c.want)
			}
		}
	}
	for _, behind := range []string{"]", "{}", ",", "[]", " x", "\x00"} {
		f := &fakeMessages{}
		_, socket := serveMessages(t, f, "")
		resp, body := post{contentType: events, body: "[" + good + "]" + behind}.send(t, socket)
		if resp.StatusCode != http.StatusBadRequest || f.got != nil {
			t.Errorf("%q behind the array: got %s, %q", behind, resp.Status, body.Error)
		}
	}
}

func TestTextIsUTF8WhateverItsEncodingIsSaidToBe(t *testing.T) {
	const good = `{"specversion":"1.0","id":"e1","source":"/s","type":"t"}`
	for contentType, body := range map[string]string{ndjson: "1", event: good, events: "[" + good + "]"} {
		only(t, post{query: "?key=k", contentType: contentType + "; charset=UTF-8", body: "\ufeff" + body})
		for _, p := range []post{
			{contentType: contentType + "; charset=iso-8859-1", body: body},
			{contentType: contentType + "; charset=utf-16", body: body},
			{contentType: contentType + "; charset", body: body},
			{contentType: contentType, body: "\xff\xfe" + strings.Join(strings.Split(body, ""), "\x00")},
			{contentType: contentType, body: "\x00" + strings.Join(strings.Split(body, ""), "\x00")},
		} {
			p.query = "?key=k"
			f := &fakeMessages{}
			_, socket := serveMessages(t, f, "")
			if resp, answer := p.send(t, socket); resp.StatusCode != http.StatusBadRequest || f.got != nil {
				t.Errorf("%q: got %s, %q", p, resp.Status, answer.Error)
			}
		}
	}
}

// FuzzCloudEventsMeanOneThing: an event that is taken has a key, an id and headers that a broker takes, and means the
// same in binary mode.
func FuzzCloudEventsMeanOneThing(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","partitionkey":"c 17","data":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		in := &form{common: NewMessage{Header: map[string][]string{}}}
		messages, err := in.readEvent(strings.NewReader(string(body)))
		if err != nil {
			if codeOf(err) != http.StatusBadRequest {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		m := messages[0]
		if m.ID == "" || !utf8.ValidString(m.Key+m.ID) || admission.MessageID(m.ID) != nil {
			t.Fatalf("%q: key %q, id %q", body, m.Key, m.ID)
		}
		request := http.Header{}
		for name, values := range m.Header {
			if strings.HasPrefix(name, cePrefix) {
				request.Set(name, `"`+strings.ReplaceAll(values[0], `\`, `\\`)+`"`)
			}
		}
		again := NewMessage{Header: map[string][]string{}}
		if err := addBinaryEvent(&again, request); err != nil || again.Key != m.Key || again.ID != m.ID {
			t.Fatalf("%q: key %q, id %q; in binary mode %q, %q, %v", body, m.Key, m.ID, again.Key, again.ID, err)
		}
	})
}
