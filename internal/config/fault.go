package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"leasehold/internal/fielderr"
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
	lines  *lineIndex
	list   []Fault
	unread []key // Faults of these keys are no news.
}

// key is a key of the file, or of the table on a line where it was expected.
type key struct {
	path string
	line int // 0: wherever it is.
}

// add notes a fault of the key at path, unless it only follows from a value that could not be read.
func (f *faults) add(path, format string, args ...any) {
	line := f.lines.of(path)
	if slices.ContainsFunc(f.unread, func(k key) bool { return k.holds(path) && (k.line == 0 || k.line == line) }) {
		return
	}
	f.addRead(path, format, args...)
}

// addRead notes a fault of what stands in the file at path.
func (f *faults) addRead(path, format string, args ...any) {
	f.list = append(f.list, Fault{Line: f.lines.of(path), Message: fmt.Sprintf(format, args...)})
}

// addUnread notes a fault that leaves the value at path unread.
func (f *faults) addUnread(path, format string, args ...any) {
	f.addRead(path, format, args...)
	f.unread = append(f.unread, key{path: path})
}

// expect says that the key at path is missing because the one at misspelt, on the same line, was meant for it.
func (f *faults) expect(path, misspelt string) {
	f.unread = append(f.unread, key{path: path, line: f.lines.of(misspelt)})
}

// holds reports whether path is the key's own or lies in its value.
func (k key) holds(path string) bool {
	rest, found := strings.CutPrefix(path, k.path)
	return found && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// addAll notes the errors of a package's Validate for the table at path.
func (f *faults) addAll(table string, err error) {
	for _, e := range fielderr.All(err) {
		f.add(fielderr.Join(table, e.Key), "%s", e)
	}
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
