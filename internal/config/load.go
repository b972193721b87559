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
	c.applyDefaults()
	c.check(f)
	if err := f.err(path); err != nil {
		return nil, err
	}
	c.warn()
	return &c, nil
}
