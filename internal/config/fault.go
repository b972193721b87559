package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a config file.
type Fault struct {
	Line    int    `json:"line"` // 0 if no line is to blame.
	Message string `json:"message"`
}

// Error is everything that is wrong with a config file, sorted by line.
type Error struct {
	File   string
	Faults []Fault
}

// Error lists the faults, one a line, in the form that editors jump to.
func (e *Error) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		place := e.File
		if f.Line > 0 {
			place = fmt.Sprintf("%s:%d", e.File, f.Line)
		}
		lines[i] = place + ": " + f.Message
	}
	return strings.Join(lines, "\n")
}

// faults collects what is wrong while a file is read and checked.
type faults struct {
	lines *lineIndex
	list  []Fault
}

// add notes a fault of the key at path.
func (f *faults) add(path, format string, args ...any) {
	f.list = append(f.list, Fault{Line: f.lines.of(path), Message: fmt.Sprintf(format, args...)})
}

// addAll notes the errors of a package's Validate. prefix is what their texts put before the key's name, table the
// path of the table that the key stands in.
func (f *faults) addAll(err error, prefix, table string) {
	for _, e := range split(err) {
		key, _, _ := strings.Cut(strings.TrimPrefix(e.Error(), prefix), ":")
		f.add(join(table, key), "%s", e)
	}
}

// split takes the result of errors.Join apart, however deep.
func split(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, split(e)...)
	}
	return all
}

// err returns what was collected, nil if it is nothing.
func (f *faults) err(file string) error {
	if len(f.list) == 0 {
		return nil
	}
	slices.SortStableFunc(f.list, func(a, b Fault) int { return cmp.Compare(order(a.Line), order(b.Line)) })
	return &Error{File: file, Faults: f.list}
}

// order puts faults without a line last.
func order(line int) int {
	if line == 0 {
		return 1 << 30
	}
	return line
}

// join makes the path of a key in a table.
func join(table, key string) string {
	if table == "" {
		return key
	}
	return table + "." + key
}
