package config

import (
	"cmp"
	"strings"

	"github.com/BurntSushi/toml"

	"leasehold/internal/fielderr"
)

// lineIndex knows on which line each key of a file begins. The TOML library does not tell, so the file is cut into its
// statements: a statement has ended once the lines since the last one parse by themselves. That holds because the
// file as a whole is known to parse.
type lineIndex struct {
	line   map[string]int // "group[1].handler.kind" → line, counted from 1.
	counts map[string]int // "group" → how many [[group]] there were so far.
	table  string         // Path of the table that the statements at hand belong to.
}

func indexLines(text string) *lineIndex {
	x := &lineIndex{line: map[string]int{}, counts: map[string]int{}}
	start, statement := 1, ""
	for i, line := range strings.Split(text, "\n") {
		statement += line + "\n"
		var tree map[string]any
		md, err := toml.Decode(statement, &tree)
		if err != nil {
			continue
		}
		x.add(statement, md, start)
		start, statement = i+2, ""
	}
	return x
}

// add notes the keys of one statement.
func (x *lineIndex) add(statement string, md toml.MetaData, line int) {
	head := strings.TrimSpace(statement)
	keys := md.Keys()
	switch {
	case len(keys) == 0:
		return
	case strings.HasPrefix(head, "["):
		x.open(keys[len(keys)-1], strings.HasPrefix(head, "[["), line)
		return
	}
	for _, key := range keys {
		x.note(fielderr.Join(x.table, strings.Join(key, ".")), line)
	}
}

// open enters the table of a header.
func (x *lineIndex) open(key toml.Key, isArray bool, line int) {
	path := ""
	for i, name := range key {
		path = fielderr.Join(path, name)
		if isArray && i == len(key)-1 {
			x.counts[path]++
		}
		if n := x.counts[path]; n > 0 {
			path = fielderr.Element(path, n-1)
		}
	}
	x.table = path
	x.note(path, line)
}

func (x *lineIndex) note(path string, line int) {
	if _, there := x.line[path]; !there {
		x.line[path] = line
	}
}

// of returns the line of a key (of the first, if it is an array of tables), or of the nearest table around it, or 0.
func (x *lineIndex) of(path string) int {
	for x != nil && path != "" {
		if line := cmp.Or(x.line[path], x.line[fielderr.Element(path, 0)]); line > 0 {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 0
}
