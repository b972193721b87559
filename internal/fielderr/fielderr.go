// Package fielderr describes what is wrong with a config, one error a key.
//
// A package that is configured by a table validates it without knowing where in a file the table stands. Its errors
// hold the key's path below the table, so that the reader of the file finds the line.
package fielderr

import (
	"errors"
	"fmt"
)

// Error is what is wrong with the value of one key.
type Error struct {
	Key  string // TOML path below the validated table, such as "backoff.max"; "" for the table as a whole.
	Name string // The key as messages name it, such as `group "billing": backoff.max`; "" if Err says it.
	Err  error  // What is wrong with the value.
}

// Error returns the name of the key and what is wrong with its value.
func (e *Error) Error() string {
	if e.Name == "" {
		return e.Err.Error()
	}
	return e.Name + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// List collects the errors of one table.
type List struct {
	prefix string
	errs   []error
}

// NewList returns an empty list. In messages, prefix stands before each key: "server." or `group "billing": `.
func NewList(prefix string) *List { return &List{prefix: prefix} }

// Add appends an error of the key. The format may wrap an error with %w.
func (l *List) Add(key, format string, args ...any) {
	l.errs = append(l.errs, &Error{Key: key, Name: l.prefix + key, Err: fmt.Errorf(format, args...)})
}

// AddTable appends the errors of the table at key. They keep their messages.
func (l *List) AddTable(key string, err error) {
	for _, e := range All(err) {
		l.errs = append(l.errs, &Error{Key: Join(key, e.Key), Name: e.Name, Err: e.Err})
	}
}

// Err returns what was collected as one error, nil if nothing was.
func (l *List) Err() error { return errors.Join(l.errs...) }

// All lists the errors that were joined into err, however deeply. One that is not an *Error gets no key.
func All(err error) []*Error {
	switch e := err.(type) { //nolint:errorlint // The tree of wrapped errors is walked here, one level at a time.
	case nil:
		return nil
	case *Error:
		return []*Error{e}
	case interface{ Unwrap() []error }:
		var all []*Error
		for _, inner := range e.Unwrap() {
			all = append(all, All(inner)...)
		}
		return all
	}
	return []*Error{{Err: err}}
}

// Join returns the path of a key in a table.
func Join(table, key string) string {
	if table == "" || key == "" {
		return table + key
	}
	return table + "." + key
}

// Element returns the path of the i-th table of an array of tables, counted from 0.
func Element(array string, i int) string { return fmt.Sprintf("%s[%d]", array, i) }
