package api

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/api/listen"
)

// fakeRequests notes what comes through.
type fakeRequests struct{ got []any }

func (f *fakeRequests) Ask(_ context.Context, _ string, a Ask) (*Asked, error) {
	f.got = append(f.got, a)
	return &Asked{}, nil
}

func (f *fakeRequests) Asked(_ context.Context, _ string, id uint64, _ time.Duration) (*Asked, error) {
	f.got = append(f.got, id)
	return &Asked{}, nil
}

func (f *fakeRequests) DeadLetters(_ context.Context, _ string, l LetterFilter) (*LetterList, error) {
	f.got = append(f.got, l)
	return &LetterList{}, nil
}

func (f *fakeRequests) Requeue(_ context.Context, _ string, o LetterOrder) (*LettersDone, error) {
	f.got = append(f.got, o)
	return &LettersDone{}, nil
}

func (f *fakeRequests) Drop(ctx context.Context, group string, o LetterOrder) (*LettersDone, error) {
	return f.Requeue(ctx, group, o)
}

type fakeExplainer struct{}

func (fakeExplainer) Explain(_ context.Context, topic string, of ExplainTarget) (*Explanation, error) {
	return &Explanation{Topic: topic, Key: of.Of, Stored: of.IsKey}, nil
}

// whole is a server with every route, and what has come through to the fakes.
type whole struct {
	requests fakeRequests
	members  fakeMembership
	messages fakeMessages
	opt      Options
}

func serveAll(t *testing.T) *whole {
	t.Helper()
	w := &whole{}
	w.opt = Options{Socket: filepath.Join(t.TempDir(), "agent.sock"), Source: fakeSource{status: &Status{}},
		Membership: &w.members, Requests: &w.requests, Messages: &w.messages, Explainer: fakeExplainer{}}
	s, err := New(w.opt)
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, s)
	return w
}

// request sends a request as it stands and returns the code and the answer.
func (w *whole) request(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return listen.DialUnix(w.opt.Socket)
		}}}
	r, err := http.NewRequest(method, "http://agent"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestNoRoutePassesOverAPartOfItsQuery goes through all routes that there are.
func TestNoRoutePassesOverAPartOfItsQuery(t *testing.T) {
	w := serveAll(t)
	h := &handler{source: w.opt.Source, log: hclog.NewNullLogger()}
	routes := h.routes(w.opt, nil)
	for route := range inputs {
		if routes[route] == nil {
			t.Errorf("there is no route %s", route)
		}
	}
	path := strings.NewReplacer("{name}", "n2", "{topic}", "orders", "{seq}", "1", "{id}", "1")
	for route := range routes {
		method, pattern, _ := strings.Cut(route, " ")
		queries := []string{"nobody=1", "dryrun=1", "Dry_Run=1", "dry_run=1;", "x=%zz", "key=a;b", "%", "=", "key=%ff"}
		for _, name := range inputs[route].params {
			queries = append(queries, name+"=1&"+name+"=1", name+"=", name, name+"=%zz", name+"=1;", name+"=%ff")
		}
		for _, query := range queries {
			if code, text := w.request(t, method, path.Replace(pattern)+"?"+query, ""); code != http.StatusBadRequest ||
				!strings.Contains(text, `"error"`) {
				t.Errorf("%s?%s: got %d, %s", route, query, code, text)
			}
		}
		if code, text := w.request(t, method, path.Replace(pattern), "dry_run=1"); !inputs[route].body &&
			code != http.StatusBadRequest {
			t.Errorf("%s with a body: got %d, %s", route, code, text)
		}
	}
	if len(w.requests.got) > 0 || len(w.members.removed) > 0 {
		t.Errorf("came through: %+v, removed %v", w.requests.got, w.members.removed)
	}
}

func TestADryRunIsOneOrIsRefused(t *testing.T) {
	w := serveAll(t)
	for query, want := range map[string]int{
		"?dry_run=1": 200, "?dry_run=true": 200, "?dry_run=yes": 400, "?dry_run=TRUE": 400, "?dry_run=no": 400,
		"?dry_run=": 400, "?dry_run": 400,
		"?dry-run=1": 400, "?dry_run=1&force=1": 400,
	} {
		if code, text := w.request(t, "POST", "/v1/nodes/n2/remove"+query, ""); code != want || len(w.members.removed) > 0 {
			t.Errorf("%s: got %d, %s; removed %v", query, code, text, w.members.removed)
		}
	}
	for _, query := range []string{"", "?dry_run=0", "?dry_run=false"} {
		w.members.removed = nil
		if code, text := w.request(t, "POST", "/v1/nodes/n2/remove"+query, ""); code != 200 || len(w.members.removed) != 1 {
			t.Errorf("%s: got %d, %s; removed %v", query, code, text, w.members.removed)
		}
	}
}

func TestBodiesOfCommandsAreReadWholeOrRefused(t *testing.T) {
	w := serveAll(t)
	for _, path := range []string{"/v1/groups/g/requests", "/v1/groups/g/dlq/drop", "/v1/groups/g/dlq/requeue"} {
		for body, want := range map[string]string{
			``:                               "unexpected end",
			`[]`:                             "not a JSON object",
			`{"kind":"pause","dryrun":true}`: `\"dryrun\" is not one of`,
			`{"KIND":"pause"}`:               `\"KIND\" is not one of`,
			`{"numbers":[1]}{"numbers":[2]}`: "unexpected text",
			`{"numbers":[1]},`:               "unexpected text",
			`{"dry_run":true,"dry_run":0}`:   "appears twice",
			`{"numbers":[1],"numbers":[2]}`:  "appears twice",
			`{"dry_run":null}`:               "null",
			`{"numbers":null}`:               "null",
			`{"partitions":[ ]}`:             "empty list",
			`{"numbers":[]}`:                 "empty list",
			"{\"reason\":\"M\xfcller\"}":     "not UTF-8",
			"{\x00\"\x00":                    "UTF-16",
			strings.Repeat(" ", maxBody+1):   "more than",
		} {
			code, text := w.request(t, "POST", path, body)
			if code != http.StatusBadRequest && code != http.StatusRequestEntityTooLarge || !strings.Contains(text, want) &&
				!strings.Contains(text, "is not one of") {
				t.Errorf("%s %.60q: got %d, %s; want %q", path, body, code, text, want)
			}
		}
	}
	if len(w.requests.got) > 0 {
		t.Errorf("came through: %+v", w.requests.got)
	}
	w.request(t, "POST", "/v1/groups/g/requests", "\ufeff"+`{"kind":"seek","to":"earliest","dry_run":true}`+"\n")
	w.request(t, "POST", "/v1/groups/g/dlq/drop", ` {"numbers":[3]} `)
	if len(w.requests.got) != 2 || !w.requests.got[0].(Ask).DryRun || w.requests.got[1].(LetterOrder).Numbers[0] != 3 {
		t.Errorf("came through: %+v", w.requests.got)
	}
}

func TestFiltersOfDeadLettersThatChooseNothingOrTooMuchAreRefused(t *testing.T) {
	w := serveAll(t)
	for _, query := range []string{"partition=-1", "partition=x", "partition=4294967296", "limit=0", "limit=-1",
		"limit=1001", "limit=1e3", "number=0", "after=-1", "kind=Dead", "reason=timeout", "since=yesterday", "since=2h",
		"data=maybe"} {
		if code, text := w.request(t, "GET", "/v1/groups/g/dlq?"+query, ""); code != http.StatusBadRequest ||
			!strings.Contains(text, strings.Split(query, "=")[0]+"=") {
			t.Errorf("%s: got %d, %s", query, code, text)
		}
	}
	if len(w.requests.got) > 0 {
		t.Errorf("came through: %+v", w.requests.got)
	}
	code, text := w.request(t, "GET",
		"/v1/groups/g/dlq?partition=3&kind=dead&reason=rejected&key=a&since=2026-01-02T15:04:05Z&after=0&limit=1000&data=1",
		"")
	if code != 200 || len(w.requests.got) != 1 || *w.requests.got[0].(LetterFilter).Partition != 3 ||
		!w.requests.got[0].(LetterFilter).Data {
		t.Errorf("got %d, %s, %+v", code, text, w.requests.got)
	}
}

func TestQuotedValuesAreUndone(t *testing.T) {
	for value, want := range map[string]string{`x`: "x", `"x"`: "x", `""`: "", `"a \"b\" \\c"`: `a "b" \c`, `a"b"`: `a"b"`,
		`"a;b, c"`: "a;b, c"} {
		if got, err := unquote(value); err != nil || got != want {
			t.Errorf("%s: got %q, %v", value, got, err)
		}
	}
	for _, value := range []string{`"`, `"a`, `"a" `, `"a"b`, `"a"; v=1`, `"a\"`, `"a"b"`} {
		if got, err := unquote(value); err == nil {
			t.Errorf("%s: got %q", value, got)
		}
	}
}

func TestFieldsThatSayNothingAboutACommandAreRefused(t *testing.T) {
	w := serveAll(t)
	for body, path := range map[string]string{
		`{"kind":"resume","keys":["k"]}`:                  "requests",
		`{"kind":"resume","to":"earliest"}`:               "requests",
		`{"kind":"seek","to":"latest","reason":"x"}`:      "requests",
		`{"kind":"pause","reason":"x","keys":["k"]}`:      "requests",
		`{"numbers":[1],"max_requeues":-1}`:               "dlq/requeue",
		`{"numbers":[1],"max_requeues":3}`:                "dlq/drop",
		`{"numbers":[-1]}`:                                "dlq/drop",
		`{"numbers":["1"]}`:                               "dlq/drop",
		`{"kind":"resume","partitions":["all"]}`:          "requests",
		`{"kind":"seek","to":"earliest","dry_run":"yes"}`: "requests",
	} {
		if code, text := w.request(t, "POST", "/v1/groups/g/"+path, body); code != http.StatusBadRequest ||
			!strings.Contains(text, "error") {
			t.Errorf("%s: got %d, %s", body, code, text)
		}
	}
	if len(w.requests.got) > 0 {
		t.Errorf("came through: %+v", w.requests.got)
	}
}
