package fielderr

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"testing"
)

// flat lists the keys and messages of an error.
func flat(err error) (out [][2]string) {
	for _, e := range All(err) {
		out = append(out, [2]string{e.Key, e.Error()})
	}
	return out
}

func TestListNamesEveryKeyByItsPrefix(t *testing.T) {
	l := NewList(`group "billing": `)
	if err := l.Err(); err != nil {
		t.Fatalf("an empty list is the error %v", err)
	}
	l.Add("timeout", "must be at least %d", 1)
	l.Add("handler.path", "open: %w", fs.ErrNotExist)
	want := [][2]string{
		{"timeout", `group "billing": timeout: must be at least 1`},
		{"handler.path", `group "billing": handler.path: open: file does not exist`},
	}
	if got := flat(l.Err()); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(l.Err(), fs.ErrNotExist) {
		t.Error("the cause is lost")
	}
}

func TestTablesWithinTablesKeepTheirMessages(t *testing.T) {
	tls := NewList("server.tls.")
	tls.Add("mode", "is unknown")
	server := NewList("server.")
	server.AddTable("tls", tls.Err())
	server.AddTable("tls", nil)
	server.Add("listen", "is empty")
	want := [][2]string{{"tls.mode", "server.tls.mode: is unknown"}, {"listen", "server.listen: is empty"}}
	if got := flat(server.Err()); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := flat(tls.Err()); got[0][0] != "mode" {
		t.Errorf("the inner list changed: %q", got)
	}
}

func TestAllFindsErrorsHoweverDeeplyJoined(t *testing.T) {
	l := NewList("")
	l.Add("a", "one")
	plain := fmt.Errorf("no key: %w", fs.ErrInvalid)
	got := flat(errors.Join(errors.Join(l.Err(), plain), nil, errors.Join(l.Err())))
	want := [][2]string{{"a", "a: one"}, {"", "no key: invalid argument"}, {"a", "a: one"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPaths(t *testing.T) {
	for got, want := range map[string]string{
		Join("", "node"): "node", Join("node", ""): "node", Join(Element("group", 1), "handler"): "group[1].handler",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
