package handler

import (
	"fmt"
	"reflect"

	"leasehold/internal/fielderr"
)

// Config is the config of one kind of handler: a struct of the kind's own, by value, with a toml tag on every field.
// A zero value of a field stands for its default.
type Config interface {
	// Defaulted returns the config with its zero fields filled in.
	Defaulted() Config
	// Validate reports every fault of a config that has its defaults, by its TOML key in the handler's table.
	Validate(fault FaultFunc)
}

// Conformance says how a kind's handlers can be checked against the protocol.
type Conformance int

// Ways to check a handler.
const (
	ConformanceNone     Conformance = iota // There is nothing of the user's to check.
	ConformanceCalls                       // By calls.
	ConformanceProtocol                    // By running a child process through its whole protocol.
)

// Kind is one kind of handler that a user can choose.
type Kind struct {
	Name        string // As handler.kind has it.
	Config      Config // With nothing set.
	New         func(c Config, e Env) (Handler, error)
	Conformance Conformance
}

// NewKind returns a kind whose configs are of one type.
func NewKind[C Config, H Handler](name string, build func(C, Env) (H, error), conformance Conformance) Kind {
	var empty C
	return Kind{Name: name, Config: empty, Conformance: conformance, New: func(c Config, e Env) (Handler, error) {
		own, ok := c.(C)
		if !ok {
			return nil, fmt.Errorf("a config of type %T is not one of kind %q", c, name)
		}
		h, err := build(own, e)
		if err != nil {
			return nil, err
		}
		return h, nil
	}}
}

// Keys lists the TOML keys that the kind's table takes besides kind.
func (k Kind) Keys() []string {
	var keys []string
	for _, f := range reflect.VisibleFields(reflect.TypeOf(k.Config)) {
		keys = append(keys, f.Tag.Get("toml"))
	}
	return keys
}

// Resources are what a handler needs from its node and its machine.
type Resources struct {
	Command   []string // Program to start, with its arguments.
	Files     []File   // Read when the handler is built.
	Directory string   // Written to.
	Service   bool     // A user of the broker who serves the group.
	SecretURL string   // Where a secret goes with every request.
}

// File is a file named by a key of the config.
type File struct {
	Key     string
	Path    string
	Private bool // Its content is secret.
}

// ResourceConfig is a Config that needs something.
type ResourceConfig interface {
	Resources() Resources
	// WithPaths returns the config with each path replaced by the result of file or directory for it.
	WithPaths(file, directory func(path string) string) Config
	// CheckFiles reads the files and returns every fault as a *fielderr.Error of the handler's table.
	CheckFiles() error
}

// ResourcesOf returns what a config needs.
func ResourcesOf(c Config) Resources {
	if r, ok := c.(ResourceConfig); ok {
		return r.Resources()
	}
	return Resources{}
}

// Complete returns a config with its defaults filled in, or all its faults as an error.
func Complete[C Config](c C) (C, error) {
	full := c.Defaulted().(C)
	faults := fielderr.NewList("handler.")
	full.Validate(faults.Add)
	return full, faults.Err()
}
