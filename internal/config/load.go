package config

import (
	"fmt"
	"path/filepath"

	"leasehold/internal/jsondata"
	"leasehold/internal/smallfile"
)

// maxFile bounds what is read as a config: anything larger is another file.
const maxFile = 1 << 20

// Load reads a file, fills in the defaults and checks everything that needs nothing but the file. A fault of its
// content is an *Error.
func Load(path string) (*Config, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the config: %w", err)
	}
	text, err := smallfile.Read(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("read the config: %w", err)
	}
	return Parse(path, string(text))
}

// Parse is Load for a text that is to become the file at path.
func Parse(path, text string) (*Config, error) {
	c := DefaultConfig()
	c.path = path
	f := &faults{}
	text = string(jsondata.TrimBOM([]byte(text)))
	if err := parse(text, &c, f); err != nil {
		return nil, syntaxError(path, text, err)
	}
	c.checkPaths(f)
	decoded := len(f.list)
	c.applyDefaults()
	c.check(f)
	if decoded > 0 {
		f.list = dropEchoes(f.list, decoded)
	}
	if err := f.err(path); err != nil {
		return nil, err
	}
	c.warn()
	return &c, nil
}

// dropEchoes removes faults that follow from another of the same line: a value that could not be read is missing, too.
func dropEchoes(list []Fault, decoded int) []Fault {
	seen := map[int]bool{}
	for _, f := range list[:decoded] {
		seen[f.Line] = true
	}
	kept := list[:decoded:decoded]
	for _, f := range list[decoded:] {
		if !seen[f.Line] || f.Line == 0 {
			kept = append(kept, f)
		}
	}
	return kept
}
