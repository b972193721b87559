package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// input is what a route takes besides its path.
type input struct {
	params []string // Of the query, each at most once.
	body   bool
}

// inputs lists every route that takes anything. A route that is not listed takes nothing: what nobody reads is refused,
// for a misspelled dry_run would be the real thing.
var inputs = map[string]input{
	"POST /v1/nodes/{name}/remove":        {params: []string{"dry_run"}},
	"POST /v1/groups/{name}/remove":       {params: []string{"dry_run"}},
	"POST /v1/topics/{name}/remove":       {params: []string{"dry_run"}},
	"POST /v1/groups/{name}/requests":     {body: true},
	"GET /v1/groups/{name}/requests/{id}": {params: []string{"wait"}},
	"GET /v1/explain":                     {params: []string{"topic", "of", "key"}},
	"GET /v1/groups/{name}/dlq": {params: []string{"partition", "kind", "key", "reason", "since", "after",
		"number", "seq", "limit", "data", "local"}},
	"POST /v1/groups/{name}/dlq/requeue": {body: true},
	"POST /v1/groups/{name}/dlq/drop":    {body: true},
	"POST /v1/topics/{topic}/messages":   {params: []string{"key", "subject", "key_field", "id_field"}, body: true},
	"GET /v1/topics/{topic}/tap": {params: []string{"partition", "key", "last", "from_seq", "since", "follow",
		"local"}},
	"GET /v1/topics/{topic}/key":   {params: []string{"name"}},
	"GET /v1/topics/{topic}/count": {params: []string{"partition", "after", "before"}},
}

// strict refuses what a route does not take. Behind it, r.URL.Query() holds all of the query.
func (h *handler) strict(route string, next http.Handler) http.Handler {
	takes := inputs[route]
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := checkQuery(r.URL.RawQuery, takes.params)
		if err == nil && !takes.body {
			err = checkNoBody(r, takes.params)
		}
		if err != nil {
			h.failWith(w, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// checkQuery refuses a query that is not read whole.
func checkQuery(query string, allowed []string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return badRequest("cannot parse the query: %s; encode the values, a percent sign as %%25 and a semicolon as %%3B",
			err)
	}
	return checkParams(values, allowed)
}

func checkParams(values url.Values, allowed []string) error {
	for name, given := range values {
		switch {
		case len(allowed) == 0:
			return badRequest("unknown parameter %q: this route takes none", name)
		case !slices.Contains(allowed, name):
			return badRequest("unknown parameter %q: expected %s", name, strings.Join(allowed, ", "))
		case len(given) > 1:
			return badRequest("parameter %q is given %d times", name, len(given))
		case given[0] == "":
			return badRequest("parameter %q is empty: give it a value or leave it out", name)
		case !utf8.ValidString(given[0]):
			return badRequest("parameter %q is not UTF-8", name)
		}
	}
	return nil
}

// checkNoBody refuses a body where none is expected.
func checkNoBody(r *http.Request, params []string) error {
	if r.ContentLength == 0 {
		return nil
	}
	if n, err := io.ReadFull(r.Body, make([]byte, 1)); n == 0 && errors.Is(err, io.EOF) {
		return nil
	}
	if len(params) > 0 {
		return badRequest("this route takes no body; its parameters go into the query: %s", strings.Join(params, ", "))
	}
	return badRequest("this route takes no body")
}

// params reads the parameters of a query that was checked; its err is the first fault.
type params struct {
	values url.Values
	err    error
}

func (p *params) fault(format string, args ...any) {
	if p.err == nil {
		p.err = badRequest(format, args...)
	}
}

// oneOf lets at most one of several be given.
func (p *params) oneOf(names ...string) {
	given := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !p.values.Has(name) })
	if len(given) > 1 {
		p.fault("%s and %s exclude each other", given[0], given[1])
	}
}

func (p *params) number(name string, low, high uint64) uint64 {
	n, err := strconv.ParseUint(p.values.Get(name), 10, 64)
	if err != nil || n < low || n > high {
		p.fault("%s=%s is not a number from %d to %d", name, p.values.Get(name), low, high)
	}
	return n
}

// given is number for a parameter that may be absent, which is 0.
func (p *params) given(name string, low, high uint64) uint64 {
	if !p.values.Has(name) {
		return 0
	}
	return p.number(name, low, high)
}

// flag is a parameter that is either on or off.
func (p *params) flag(name string) bool {
	switch v := p.values.Get(name); v {
	case "1", "true":
		return true
	case "", "0", "false":
	default:
		p.fault("%s=%s is not valid: use true or false", name, v)
	}
	return false
}

// choice is a parameter with a few possible values; "" if it is absent.
func (p *params) choice(name string, values ...string) string {
	v := p.values.Get(name)
	if v != "" && !slices.Contains(values, v) {
		p.fault("%s=%s is not one of %s", name, v, strings.Join(values, ", "))
	}
	return v
}

// single is a header that counts once, "" if it is absent.
func single(h http.Header, name string) (string, error) {
	switch values := h.Values(name); {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", badRequest("header %s is given %d times", name, len(values))
	case !utf8.ValidString(values[0]):
		return "", badRequest("header %s is not UTF-8", name)
	default:
		return values[0], nil
	}
}

// unquote undoes a quoted string of RFC 9110, section 5.6.4. A value that does not begin with a quotation mark is
// itself.
func unquote(value string) (string, error) {
	if !strings.HasPrefix(value, `"`) {
		return value, nil
	}
	var b strings.Builder
	for i := 1; i < len(value); i++ {
		switch c := value[i]; {
		case c == '"' && i == len(value)-1:
			return b.String(), nil
		case c == '"':
			return "", fmt.Errorf("unexpected text after the quoted value")
		case c == '\\' && i+1 < len(value):
			i++
			b.WriteByte(value[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", fmt.Errorf("the closing quotation mark is missing")
}
