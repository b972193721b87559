package worker

import (
	"encoding/json"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"time"
)

// Kinds lists the handler kinds of this version.
func Kinds() []string { return []string{KindSubprocess, KindFile, KindLog, KindDiscard} }

// laterKinds are announced and not here yet; a config that names one deserves a better answer than "unknown".
var laterKinds = []string{"http", "nats", "exec"}

// keysOfKind lists which keys besides kind each handler kind takes.
var keysOfKind = map[string][]string{
	KindSubprocess: {"command", "processes", "start_timeout", "stop_timeout", "env", "pass_env", "config"},
	KindFile:       {"path", "sync"},
	KindLog:        {"payload"},
	KindDiscard:    {},
}

// Environment names that a shell and every C library can hold.
var validEnv = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// WithDefaults returns h with its zero fields filled in, as far as its kind uses them.
func (h HandlerConfig) WithDefaults() HandlerConfig {
	switch h.Kind {
	case KindSubprocess:
		setDefault(&h.Processes, runtime.GOMAXPROCS(0))
		setDefault(&h.StartTimeout, 10*time.Second)
		setDefault(&h.StopTimeout, 5*time.Second)
	case KindFile:
		setDefault(&h.Sync, SyncNone)
	}
	return h
}

func (h HandlerConfig) validate(fault faultFunc) {
	allowed, known := keysOfKind[h.Kind]
	if !known {
		h.faultKind(fault)
		return
	}
	for _, key := range h.given() {
		if !slices.Contains(allowed, key) {
			fault("handler."+key, "is no key of kind %q", h.Kind)
		}
	}
	switch h.Kind {
	case KindSubprocess:
		h.validateSubprocess(fault)
	case KindFile:
		if h.Path == "" {
			fault("handler.path", "must name a directory")
		}
		oneOf(fault, "handler.sync", h.Sync, SyncNone, SyncEach)
	}
}

func (h HandlerConfig) faultKind(fault faultFunc) {
	if slices.Contains(laterKinds, h.Kind) {
		fault("handler.kind", "%q is not in this version; there are %s", h.Kind, orList(Kinds()))
		return
	}
	oneOf(fault, "handler.kind", h.Kind, Kinds()...)
}

func (h HandlerConfig) validateSubprocess(fault faultFunc) {
	if len(h.Command) == 0 || h.Command[0] == "" {
		fault("handler.command", "must name a program, like [\"python3\", \"/opt/handler.py\"]")
	}
	if h.Processes < 1 || h.Processes > 1024 {
		fault("handler.processes", "must be from 1 to 1024, is %d", h.Processes)
	}
	within(fault, "handler.start_timeout", h.StartTimeout, 10*time.Millisecond, time.Hour)
	within(fault, "handler.stop_timeout", h.StopTimeout, 10*time.Millisecond, time.Hour)
	if _, err := json.Marshal(h.Config); err != nil {
		fault("handler.config", "cannot be sent to the child: %s", err)
	}
	names := append(slices.Sorted(maps.Keys(h.Env)), h.PassEnv...)
	for _, name := range names {
		if !validEnv.MatchString(name) {
			fault("handler.env", "%q is no name of an environment variable", name)
		}
	}
}

// given lists the keys that have a value.
func (h HandlerConfig) given() []string {
	var keys []string
	for _, k := range []struct {
		key string
		set bool
	}{
		{"command", len(h.Command) > 0},
		{"processes", h.Processes != 0},
		{"start_timeout", h.StartTimeout != 0},
		{"stop_timeout", h.StopTimeout != 0},
		{"env", len(h.Env) > 0},
		{"pass_env", len(h.PassEnv) > 0},
		{"config", len(h.Config) > 0},
		{"path", h.Path != ""},
		{"sync", h.Sync != ""},
		{"payload", h.Payload},
	} {
		if k.set {
			keys = append(keys, k.key)
		}
	}
	return keys
}
