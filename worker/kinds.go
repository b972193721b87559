package worker

import (
	"fmt"
	"slices"

	"leasehold/worker/handler"
	"leasehold/worker/handler/exec"
	"leasehold/worker/handler/natsrpc"
	"leasehold/worker/handler/sink"
	"leasehold/worker/handler/subprocess"
	"leasehold/worker/handler/webhook"
)

// kinds are the kinds of handlers that a user can choose, in the order in which they are listed. A new kind is a
// package and a line here.
var kinds = []handler.Kind{subprocess.Kind, webhook.Kind, natsrpc.Kind, exec.Kind, sink.FileKind, sink.LogKind,
	sink.DiscardKind}

// Kinds lists the names of the handler kinds.
func Kinds() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.Name
	}
	return names
}

// KindNamed finds a kind by its name.
func KindNamed(name string) (handler.Kind, bool) {
	for _, k := range kinds {
		if k.Name == name {
			return k, true
		}
	}
	return handler.Kind{}, false
}

// HandlerConfig is a group's handler table.
type HandlerConfig struct {
	Kind   string         `toml:"kind"`
	Config handler.Config // The rest of the table, as the kind has it; nil if there is no such kind.
}

// WithDefaults returns h with the zero fields of its config filled in.
func (h HandlerConfig) WithDefaults() HandlerConfig {
	if k, ok := KindNamed(h.Kind); ok && h.Config == nil {
		h.Config = k.Config
	}
	if h.Config != nil {
		h.Config = h.Config.Defaulted()
	}
	return h
}

func (h HandlerConfig) validate(fault handler.FaultFunc) {
	if _, ok := KindNamed(h.Kind); !ok {
		handler.OneOf(fault, "handler.kind", h.Kind, Kinds()...)
		return
	}
	h.Config.Validate(func(key, format string, args ...any) { fault("handler."+key, format, args...) })
}

// Resources are what the handler needs from its node and its machine.
func (h HandlerConfig) Resources() handler.Resources { return handler.ResourcesOf(h.Config) }

// WithPaths returns h with each path in its config replaced by the result of file or directory for it.
func (h HandlerConfig) WithPaths(file, directory func(path string) string) HandlerConfig {
	if c, ok := h.Config.(handler.ResourceConfig); ok {
		h.Config = c.WithPaths(file, directory)
	}
	return h
}

// CheckFiles reads the files that the config names and reports every fault, by its key.
func (h HandlerConfig) CheckFiles() error {
	if c, ok := h.Config.(handler.ResourceConfig); ok {
		return c.CheckFiles()
	}
	return nil
}

// KindsWithKey lists the kinds whose table takes a key.
func KindsWithKey(key string) []string {
	var names []string
	for _, k := range kinds {
		if slices.Contains(k.Keys(), key) {
			names = append(names, k.Name)
		}
	}
	return names
}

// NewHandler builds the group's handler. It does nothing before it runs.
func (c Config) NewHandler(e handler.Env) (handler.Handler, error) {
	k, ok := KindNamed(c.Handler.Kind)
	if !ok {
		return nil, fmt.Errorf("group %q: handler.kind: there is no kind %q", c.Name, c.Handler.Kind)
	}
	h, err := k.New(c.Handler.WithDefaults().Config, e)
	if err != nil {
		return nil, fmt.Errorf("group %q: handler: %w", c.Name, err)
	}
	return h, nil
}
