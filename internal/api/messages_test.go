package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"leasehold/internal/admission"
	"leasehold/internal/api/listen"
)

// fakeMessages keeps what it is given, and gives the receipts that a test wants.
type fakeMessages struct {
	fakeTaps
	got   []NewMessage
	err   error
	fails map[int]error // By index.
}

func (f *fakeMessages) Publish(_ context.Context, _ string, messages []NewMessage) ([]Receipt, error) {
	f.got = messages
	if f.err != nil {
		return nil, f.err
	}
	receipts := make([]Receipt, len(messages))
	for i, m := range messages {
		receipts[i] = Receipt{Outcome: OutcomeStored, Partition: 3, Seq: uint64(i + 1), Key: m.Key, Err: f.fails[i]}
	}
	return receipts, nil
}

func serveMessages(t *testing.T, m Messages, token string) (addr, socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "agent.sock")
	s, err := New(Options{Listen: "127.0.0.1:0", Socket: socket, Source: fakeSource{}, Messages: m, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, s)
	return s.Addr(), socket
}

// post is a request on a socket and what came of it.
type post struct {
	topic                    string // "orders" if empty.
	query, contentType, body string
	header                   map[string]string
}

func (p post) send(t *testing.T, socket string) (*http.Response, Published) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Minute,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return listen.DialUnix(socket)
		}}}
	req, err := http.NewRequest("POST", "http://agent/v1/topics/"+cmp.Or(p.topic, "orders")+"/messages"+p.query,
		strings.NewReader(p.body))
	if err != nil {
		t.Fatal(err)
	}
	if p.contentType != "" {
		req.Header.Set("Content-Type", p.contentType)
	}
	for name, value := range p.header {
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var body Published
	if err := json.Unmarshal(text, &body); err != nil {
		t.Fatalf("%s: %v: %s", resp.Status, err, text)
	}
	return resp, body
}

const (
	ndjson = "application/x-ndjson"
	event  = "application/cloudevents+json"
	events = "application/cloudevents-batch+json"
)

func TestBodiesBecomeMessages(t *testing.T) {
	plainHeader := func(pairs ...string) map[string][]string {
		h := map[string][]string{}
		for i := 0; i < len(pairs); i += 2 {
			h[pairs[i]] = []string{pairs[i+1]}
		}
		return h
	}
	created := plainHeader("ce-specversion", "1.0", "ce-id", "e%201", "ce-source", "/shop", "ce-type", "created",
		"Content-Type", "application/json")
	keyed := plainHeader("ce-specversion", "1.0", "ce-id", "e%201", "ce-source", "/shop", "ce-type", "created",
		"ce-partitionkey", "c-17", "Content-Type", "text/plain")
	const attributes = `"specversion":"1.0","id":"e 1","source":"/shop","type":"created"`
	for name, c := range map[string]struct {
		post
		want []NewMessage
	}{
		"any content": {
			post{query: "?key=c-17", contentType: "image/png", body: "\x89PNG",
				header: map[string]string{"Traceparent": "00-1-2-01", "Idempotency-Key": "m1"}},
			[]NewMessage{{Key: "c-17", ID: "m1", Header: plainHeader("Content-Type", "image/png", "traceparent", "00-1-2-01"),
				Data: []byte("\x89PNG")}},
		},
		"key in a header": {
			post{body: "x", header: map[string]string{"Leasehold-Key": "c-18"}},
			[]NewMessage{{Key: "c-18", Header: plainHeader(), Data: []byte("x")}},
		},
		"full subject": {
			post{query: "?subject=orders.c-19"},
			[]NewMessage{{Subject: "orders.c-19", Header: plainHeader(), Data: []byte{}}},
		},
		"lines with fields": {
			post{query: "?key_field=who.id&id_field=n", contentType: ndjson + "; charset=utf-8",
				body: `{"who":{"id":"a"},"n":1}` + "\n\n" + `{"who":{"id":7},"n":2}`},
			[]NewMessage{
				{Line: 1, Key: "a", ID: "1", Header: plainHeader("Content-Type", "application/json"),
					Data: []byte(`{"who":{"id":"a"},"n":1}`)},
				{Line: 3, Key: "7", ID: "2", Header: plainHeader("Content-Type", "application/json"),
					Data: []byte(`{"who":{"id":7},"n":2}`)},
			},
		},
		"lines of one key, each with an id of its own": {
			post{query: "?key=k", contentType: ndjson, body: "1\n2\n", header: map[string]string{"Idempotency-Key": "r1"}},
			[]NewMessage{
				{Line: 1, Key: "k", ID: "r1/1", Header: plainHeader("Content-Type", "application/json"), Data: []byte("1")},
				{Line: 2, Key: "k", ID: "r1/2", Header: plainHeader("Content-Type", "application/json"), Data: []byte("2")},
			},
		},
		"event in binary mode": {
			post{contentType: "text/plain", body: "hi", header: map[string]string{"ce-specversion": "1.0", "CE-ID": "e%201",
				"ce-source": "/shop", "ce-type": "created", "ce-partitionkey": "c-17"}},
			[]NewMessage{{Key: "c-17", ID: "/shop e%201", Header: keyed, Data: []byte("hi")}},
		},
		"event in structured mode": {
			post{query: "?key=q", contentType: event, body: `{` + attributes + `,"data":{"total": 1.50}}`},
			[]NewMessage{{Key: "q", ID: "/shop e%201", Header: created, Data: []byte(`{"total": 1.50}`)}},
		},
		"event with text": {
			post{contentType: event, body: `{` + attributes +
				`,"partitionkey":"c-17","datacontenttype":"text/plain","data":"hi \"there\""}`},
			[]NewMessage{{Key: "c-17", ID: "/shop e%201", Header: keyed, Data: []byte(`hi "there"`)}},
		},
		"batch of events": {
			post{query: "?key=k", contentType: events, body: `[{` + attributes +
				`,"data_base64":"/wA=","datacontenttype":"application/json"}]`},
			[]NewMessage{{Line: 1, Key: "k", ID: "/shop e%201", Header: created, Data: []byte{0xff, 0}}},
		},
	} {
		f := &fakeMessages{}
		_, socket := serveMessages(t, f, "")
		resp, body := c.send(t, socket)
		if resp.StatusCode != http.StatusOK || len(body.Messages) != len(c.want) {
			t.Errorf("%s: got %s, %+v", name, resp.Status, body)
		}
		if !reflect.DeepEqual(f.got, c.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, f.got, c.want)
		}
	}
}

// TestHeadersThatContradictAreRefused: of two values the first would count, and what the second meant would be lost.
func TestHeadersThatContradictAreRefused(t *testing.T) {
	f := &fakeMessages{}
	_, socket := serveMessages(t, f, "")
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn,
		error) {
		return listen.DialUnix(socket)
	}}}
	t.Cleanup(client.CloseIdleConnections)
	for _, c := range []struct {
		query string
		h     http.Header
		code  int
		want  string
	}{
		{"", http.Header{"Leasehold-Key": {"a", "b"}}, 400, "header Leasehold-Key is given 2 times"},
		{"", http.Header{"Leasehold-Key": {"a", "a"}}, 400, "Leasehold-Key"},
		{"?key=a", http.Header{"Leasehold-Key": {"b"}}, 400, `key is "a" and header Leasehold-Key is "b"`},
		{"?key=a", http.Header{"Idempotency-Key": {"1", "2"}}, 400, "Idempotency-Key"},
		{"?key=a", http.Header{"Content-Type": {"text/csv", "application/x-ndjson"}}, 400, "Content-Type"},
		{"?key=a", http.Header{"Ce-Id": {"1", "2"}}, 400, "Ce-Id"},
		{"?key=a", http.Header{"Traceparent": {"00-1", "00-2"}}, 400, "Traceparent"},
		{"?key=a", http.Header{"Leasehold-Key": {"a"}, "Tracestate": {"a=1", "b=2"}}, 200, "stored"},
	} {
		req, err := http.NewRequest("POST", "http://agent/v1/topics/orders/messages"+c.query, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = c.h
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.code || !strings.Contains(strings.ReplaceAll(string(text), `\"`, `"`), c.want) {
			t.Errorf("%s %v: %d %s", c.query, c.h, resp.StatusCode, text)
		}
	}
	if len(f.got) != 1 {
		t.Errorf("published %+v", f.got)
	}
}

func TestOverlongEventIDsStayDistinctAndFit(t *testing.T) {
	seen := map[string]bool{}
	for _, last := range []string{"a", "b", "a"} {
		f := &fakeMessages{}
		_, socket := serveMessages(t, f, "")
		long := strings.Repeat("é", 200) + last
		post{query: "?key=k", contentType: event, body: `{"specversion":"1.0","id":"` + long +
			`","source":"/s","type":"t"}`}.send(t, socket)
		if len(f.got) != 1 || admission.MessageID(f.got[0].ID) != nil || f.got[0].ID == "" {
			t.Fatalf("got %+v", f.got)
		}
		seen[f.got[0].ID] = true
	}
	if len(seen) != 2 {
		t.Errorf("two events have the ids %v", seen)
	}
}

func TestABadBodyPublishesNothingAndIsNamed(t *testing.T) {
	for _, c := range []struct {
		post
		code int
		want string
	}{
		{post{query: "?key_field=k", contentType: ndjson, body: `{"k":"a"}` + "\n" + `{"j":"b"}`}, 400,
			`line 2: line has no field "k"; nothing was published`},
		{post{query: "?key_field=k&key=a", contentType: ndjson}, 400, "exclude each other"},
		{post{query: "?key_field=k", contentType: ndjson, body: "{\"k\":\"a\"}\n{\"k\":\"M\xfcller\"}"}, 400,
			"line 2: line is not UTF-8"},
		{post{query: "?key_field=k", contentType: ndjson, body: `{"k":"a"}{"k":"b"}`}, 400,
			"line 1: line is not one JSON value"},
		{post{query: "?key=a", contentType: ndjson, body: "1\n1,"}, 400, "line 2: line is not one JSON value"},
		{post{query: "?key=a", contentType: ndjson, body: "[\n  1,\n  2\n]"}, 400, "jq -c"},
		{post{query: "?key=a", contentType: ndjson, body: "\xff\xfe1\x00\n\x00"}, 400, "UTF-16"},
		{post{query: "?keyfield=k", contentType: ndjson}, 400, `"keyfield"`},
		{post{query: "?key=a&key=b"}, 400, "2 times"},
		{post{query: "?key_field=k", contentType: "text/plain"}, 400, `"key_field": expected key, subject`},
		{post{query: "?key=a", contentType: ndjson, body: "\n\n"}, 400, "no message"},
		{post{query: "?key=a", contentType: event, body: `{"id":"1"}`}, 400, `no attribute "specversion"`},
		{post{query: "?key=a", contentType: event, body: `[]`}, 400, "not one JSON object"},
		{post{query: "?key=a", contentType: event, body: `{"specversion":"0.3","id":"1","source":"s","type":"t"}`}, 400,
			"0.3"},
		{post{query: "?key=a", contentType: event, body: `{"specversion":"1.0","id":"1","source":"s","type":"t"} {}`}, 400,
			"unexpected text"},
		{post{query: "?key=a", contentType: event,
			body: `{"specversion":"1.0","id":"1","source":"s","type":"t","Bad-Name":"x"}`}, 400, "Bad-Name"},
		{post{query: "?key=a", contentType: event, body: `{"specversion":"1.0","id":"1","source":"s","type":"t","x":{}}`},
			400, `"x" is not text`},
		{post{query: "?key=a", contentType: event,
			body: `{"specversion":"1.0","id":"1","source":"s","type":"t","data":1,"data_base64":""}`}, 400, "both"},
		{post{query: "?key=a", contentType: event,
			body: `{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"?"}`}, 400, "not base64"},
		{post{query: "?key=a", contentType: events,
			body: `[{"specversion":"1.0","id":"1","source":"s","type":"t"},{"id":"2"}]`}, 400, "event 2"},
		{post{query: "?key=a", contentType: events, body: `{}`}, 400, "not a JSON array"},
		{post{query: "?key=a", contentType: events, body: `[`}, 400, "not a JSON array"},
		{post{query: "?key=a", contentType: "application/cloudevents+avro"}, 400, "avro"},
		{post{query: "?key=a", header: map[string]string{"ce-specversion": "1.0"}}, 400, `no attribute "id"`},
		{post{query: "?key=a", header: map[string]string{"Content-Encoding": "gzip"}}, 400, "gzip"},
		{post{query: "?key=a", body: strings.Repeat("x", 1025)}, 413, "1024"},
		{post{query: "?key=a", contentType: ndjson, body: strings.Repeat("1\n", maxBatch+1)}, 413, "10000 messages"},
		{post{query: "?key=a", contentType: ndjson, body: strings.Repeat("x", maxBatchBytes+1),
			header: map[string]string{"Expect": "100-continue"}}, 413, "several requests"},
	} {
		f := &fakeMessages{}
		_, socket := serveMessages(t, f, "")
		resp, body := c.send(t, socket)
		if resp.StatusCode != c.code || !strings.Contains(body.Error, c.want) {
			t.Errorf("%+.80s: got %s, %q; want %d, %q", c.post, resp.Status, body.Error, c.code, c.want)
		}
		if f.got != nil {
			t.Errorf("%+.80s: %d messages were published", c.post, len(f.got))
		}
	}
}

func TestTheWorstOutcomeDecidesTheCode(t *testing.T) {
	full, unknown, busy := Mark(ErrFull, "full"), Mark(ErrNotYet, "no answer"), Mark(ErrBusy, "window")
	for _, c := range []struct {
		fails map[int]error
		err   error
		code  int
		retry string
		text  string
	}{
		{nil, nil, 200, "", ""},
		{map[int]error{1: full}, nil, 507, "", "1 of 3 messages are not stored for sure; the first of them: full"},
		{map[int]error{0: unknown, 1: full}, nil, 503, "1", "2 of 3"},
		{map[int]error{0: busy, 2: Mark(ErrTooLarge, "big")}, nil, 429, "1", "2 of 3"},
		{nil, Mark(ErrNotYet, "starting"), 503, "1", "starting"},
		{nil, &MessageError{Index: 2, Err: Mark(ErrBadRequest, "message has no key")}, 400, "",
			"line 3: message has no key; nothing was published"},
		{nil, errors.New("disk on fire"), 500, "", "disk on fire"},
	} {
		_, socket := serveMessages(t, &fakeMessages{fails: c.fails, err: c.err}, "")
		resp, body := post{query: "?key=k", contentType: ndjson, body: "1\n2\n3"}.send(t, socket)
		if resp.StatusCode != c.code || resp.Header.Get("Retry-After") != c.retry || !strings.Contains(body.Error, c.text) {
			t.Errorf("got %s, Retry-After %q, %q; want %d, %q, %q", resp.Status, resp.Header.Get("Retry-After"), body.Error,
				c.code, c.retry, c.text)
		}
		for i, r := range body.Messages {
			if (r.Error == "") != (c.fails[i] == nil) || r.Line != i+1 {
				t.Errorf("receipt %d: %+v", i, r)
			}
		}
	}
}

func TestMessagesAreForTheSocketAndTheToken(t *testing.T) {
	send := func(addr, token string, header ...string) int {
		req, err := http.NewRequest("POST", "http://"+addr+"/v1/topics/orders/messages?key=k", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	open := &fakeMessages{}
	addr, _ := serveMessages(t, open, "")
	// What a page in a browser on this machine can send without being asked: a simple request, with or without an origin.
	for _, header := range [][]string{nil, {"Content-Type", "text/plain", "Origin", "http://evil.example"},
		{"Host", "evil.example"}} {
		if code := send(addr, "", header...); code != http.StatusForbidden || open.got != nil {
			t.Errorf("open port, %v: got %d", header, code)
		}
	}
	guarded := &fakeMessages{}
	addr, _ = serveMessages(t, guarded, "secret")
	if code := send(addr, "wrong"); code != http.StatusUnauthorized || guarded.got != nil {
		t.Errorf("wrong token: got %d", code)
	}
	if code := send(addr, "secret"); code != http.StatusOK {
		t.Errorf("token: got %d", code)
	}
}

func TestAnUnknownTopicIsNotFound(t *testing.T) {
	_, socket := serveMessages(t, &fakeMessages{}, "")
	if resp, body := (post{topic: "nope", query: "?key=k"}).send(t, socket); resp.StatusCode != http.StatusNotFound ||
		!strings.Contains(body.Error, `"nope"`) {
		t.Errorf("got %s, %q", resp.Status, body.Error)
	}
}

func FuzzBodiesBecomeMessagesOrAnError(f *testing.F) {
	f.Add(0, `{"k":"a"}`+"\n"+`{"k":7}`, "key_field=k")
	f.Add(1, `{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"a":[1]},"x":true}`, "key=a")
	f.Add(2, `[{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"/w=="},{}]`, "")
	f.Add(3, "\xff\x00", "subject=orders.a")
	types := []string{ndjson, event, events, "text/plain"}
	f.Fuzz(func(t *testing.T, kind int, body, query string) {
		r, err := http.NewRequest("POST", "http://agent/", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", types[uint(kind)%uint(len(types))])
		form, err := readForm(r, TopicInfo{MaxPayload: 1024}, maxBatchBytes)
		if err != nil {
			return
		}
		messages, err := form.read(r.Body)
		if (err == nil) == (len(messages) == 0) || err != nil && codeOf(err) != http.StatusBadRequest &&
			codeOf(err) != http.StatusRequestEntityTooLarge {
			t.Errorf("%d messages, %v", len(messages), err)
		}
	})
}
