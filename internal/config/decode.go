package config

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"leasehold/internal/duration"
	"leasehold/internal/fielderr"
	"leasehold/worker"
)

// decoder reads a parsed file into structs, key by key: the library would stop at the first wrong type, take keys in
// any case, and name unknown keys without their line.
type decoder struct {
	md     toml.MetaData
	faults *faults
}

// table fills the struct v from the keys of one table.
func (d *decoder) table(keys map[string]toml.Primitive, v reflect.Value, path string) {
	fields := fieldsByKey(v.Type())
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		field, known := fields[key]
		if !known {
			d.unknown(key, path, keys, slices.Sorted(maps.Keys(fields)))
			continue
		}
		d.value(keys[key], v.Field(field), fielderr.Join(path, key))
		if s, ok := v.Addr().Interface().(stated); ok {
			s.Stated(key)
		}
	}
}

// stated is a table for which it makes a difference whether a key is there or has its default.
type stated interface{ Stated(key string) }

// maxListed is how many keys a message lists: the docs are better at longer lists.
const maxListed = 10

// nameList prints names, at least two, as a list: a, b and c.
func nameList(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// unknown notes a key that its table does not take. The key that was most likely meant is not reported as missing.
func (d *decoder) unknown(key, table string, given map[string]toml.Primitive, known []string) {
	path := fielderr.Join(table, key)
	meant, hint := Nearest(key, known), suggest(key, known)
	for _, k := range known {
		if strings.EqualFold(k, key) {
			meant, hint = k, fmt.Sprintf("; keys are lower case: %q", k)
		}
	}
	if hint == "" && 1 < len(known) && len(known) <= maxListed {
		hint = "; the keys are " + nameList(known)
	}
	d.faults.addRead(path, "unknown key %q%s", display(path), hint)
	if _, there := given[meant]; meant != "" && !there {
		d.faults.expect(fielderr.Join(table, meant), path)
	}
}

// value fills one field from one value.
func (d *decoder) value(p toml.Primitive, field reflect.Value, path string) {
	if h, ok := field.Addr().Interface().(*worker.HandlerConfig); ok {
		d.handler(p, h, path)
		return
	}
	switch {
	case isLeaf(field):
		d.leaf(p, field, path)
	case field.Kind() == reflect.Struct:
		if sub, ok := d.sub(p, path, "with the keys "+nameList(slices.Sorted(maps.Keys(fieldsByKey(field.Type()))))); ok {
			d.table(sub, field, path)
		}
	default:
		var subs []map[string]toml.Primitive
		if err := d.md.PrimitiveDecode(p, &subs); err != nil || slices.ContainsFunc(subs, isNil) {
			d.faults.addUnread(path, "%s: must be an array of tables: write [[%s]]", display(path), path)
			return
		}
		field.Set(reflect.MakeSlice(field.Type(), len(subs), len(subs)))
		for i, sub := range subs {
			field.Index(i).Set(newElement(field.Type().Elem()))
			d.table(sub, field.Index(i), fielderr.Element(path, i))
		}
	}
}

// sub reads the keys of a table, whose form is a part of the fault if there is none.
func (d *decoder) sub(p toml.Primitive, path, form string) (keys map[string]toml.Primitive, ok bool) {
	if err := d.md.PrimitiveDecode(p, &keys); err != nil || isNil(keys) {
		d.faults.addUnread(path, "%s: must be a table %s", display(path), form)
		return nil, false
	}
	return keys, true
}

// isNil holds for what the library makes, without an error, of a value that is not a table.
func isNil(table map[string]toml.Primitive) bool { return table == nil }

// newElement returns what an empty table of an array of tables means.
func newElement(t reflect.Type) reflect.Value {
	if t == reflect.TypeFor[worker.Config]() {
		return reflect.ValueOf(worker.DefaultConfig())
	}
	return reflect.Zero(t)
}

// isLeaf reports whether the library decodes the field's value as a whole.
func isLeaf(field reflect.Value) bool {
	switch field.Addr().Interface().(type) {
	case toml.Unmarshaler, encoding.TextUnmarshaler:
		return true
	}
	isTables := field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct
	return field.Kind() != reflect.Struct && !isTables
}

func (d *decoder) leaf(p toml.Primitive, field reflect.Value, path string) {
	if field.Type() == reflect.TypeFor[time.Duration]() {
		d.duration(p, field, path)
		return
	}
	err := d.md.PrimitiveDecode(p, field.Addr().Interface())
	if err == nil {
		return
	}
	var one string
	if field.Type() == reflect.TypeFor[[]string]() && d.md.PrimitiveDecode(p, &one) == nil {
		d.faults.addUnread(path, "%s: must be a list: write %s", display(path), listOf(one))
		return
	}
	for _, text := range strings.Split(plainText(err), "\n") {
		d.faults.addUnread(path, "%s: %s", display(path), text)
	}
}

// listOf is a text as the list that was meant: a command line, or names with commas between them.
func listOf(text string) string {
	parts := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
	for i := range parts {
		parts[i] = strconv.Quote(parts[i])
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// duration refuses bare numbers, which the library would take for nanoseconds.
func (d *decoder) duration(p toml.Primitive, field reflect.Value, path string) {
	var text string
	if err := d.md.PrimitiveDecode(p, &text); err != nil {
		d.faults.addUnread(path, "%s: must be a string with a unit, like \"500ms\", \"30s\", \"2m\" or \"7d\"", display(path))
		return
	}
	value, err := duration.Parse(text)
	if err != nil || value < 0 {
		d.faults.addUnread(path, "%s: %q is not a valid duration; write one like \"500ms\", \"30s\", \"2m\" or \"7d\"",
			display(path), text)
		return
	}
	field.SetInt(int64(value))
}

// plainText strips what the library says about itself and its types from an error of a value.
func plainText(err error) string {
	var parse toml.ParseError
	if errors.As(err, &parse) {
		return parse.Message
	}
	_, text, found := strings.Cut(err.Error(), "incompatible types: ")
	if !found {
		return err.Error()
	}
	text = strings.ReplaceAll(text, "TOML value has type ", "wrong type: found ")
	return strings.ReplaceAll(text, "; destination has type ", ", must be ")
}

// display returns a path without the indexes of tables in arrays: users find the table by its line.
func display(path string) string {
	for {
		open := strings.IndexByte(path, '[')
		if open < 0 {
			return path
		}
		path = path[:open] + path[open+strings.IndexByte(path[open:], ']')+1:]
	}
}

// fieldsByKey maps the TOML keys of a struct to its fields.
func fieldsByKey(t reflect.Type) map[string]int {
	fields := map[string]int{}
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("toml"); key != "" {
			fields[key] = i
		}
	}
	return fields
}

// parse reads text into c and notes every fault. It returns an error only if the text is not TOML.
func parse(text string, c *Config, f *faults) error {
	var tree map[string]toml.Primitive
	md, err := toml.Decode(text, &tree)
	if err != nil {
		return err
	}
	f.lines = indexLines(text)
	d := &decoder{md: md, faults: f}
	d.table(tree, reflect.ValueOf(c).Elem(), "")
	return nil
}

// syntaxError turns the library's error into a fault with its position.
func syntaxError(file, text string, err error) error {
	var parse toml.ParseError
	if other := otherFormat(text); other != "" {
		return &Error{File: file, Faults: []Fault{{Line: 1, Message: "this looks like " + other +
			", and a config is TOML: [node], then name = \"n1\"; " + "`leasehold init` writes one"}}}
	}
	if !errors.As(err, &parse) {
		return &Error{File: file, Faults: []Fault{{Message: err.Error()}}}
	}
	message := fmt.Sprintf("column %d: %s", parse.Position.Col, parse.Message)
	return &Error{File: file, Faults: []Fault{{Line: parse.Position.Line, Message: message}}}
}

var yamlLine = regexp.MustCompile(`^(---|- |[\w.-]+:(\s|$))`)

// otherFormat names the format of a text that is not TOML, by its first line; empty if it may be meant as TOML.
func otherFormat(text string) string {
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case strings.HasPrefix(line, "{"):
			return "JSON"
		case strings.HasPrefix(line, "<"):
			return "XML"
		case yamlLine.MatchString(line):
			return "YAML"
		}
		return ""
	}
	return ""
}
