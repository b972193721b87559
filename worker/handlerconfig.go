package worker

import (
	"encoding/json"
	"maps"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"leasehold/internal/fielderr"
)

// Kinds lists the handler kinds of this version.
func Kinds() []string {
	return []string{KindSubprocess, KindHTTP, KindNATS, KindExec, KindFile, KindLog, KindDiscard}
}

// keysOfKind lists which keys besides kind each handler kind takes.
var keysOfKind = map[string][]string{
	KindSubprocess: {"command", "processes", "batch", "start_timeout", "stop_timeout", "env", "pass_env", "config"},
	KindHTTP:       {"url", "headers", "secret_files", "bearer_file", "ca_file", "cert_file", "key_file", "ok_status", "batch"},
	KindNATS:       {"ok_status", "batch"},
	KindExec:       {"command", "env", "pass_env"},
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
		setDefault(&h.Batch, 100)
	case KindHTTP, KindNATS:
		setDefault(&h.Batch, 1)
	case KindFile:
		setDefault(&h.Sync, SyncNone)
	}
	return h
}

// of returns h with its defaults if it is a valid config of the kind.
func (h HandlerConfig) of(kind string) (HandlerConfig, error) {
	h = h.WithDefaults()
	faults := &fielderr.List{}
	fault := faults.Add
	h.validate(fault)
	if h.Kind != kind {
		fault("handler.kind", "must be %q, is %q", kind, h.Kind)
	}
	return h, faults.Err()
}

func (h HandlerConfig) validate(fault faultFunc) {
	allowed, known := keysOfKind[h.Kind]
	if !known {
		oneOf(fault, "handler.kind", h.Kind, Kinds()...)
		return
	}
	for _, key := range h.given() {
		if !slices.Contains(allowed, key) {
			fault("handler."+key, "is not a key of kind %q", h.Kind)
		}
	}
	if slices.Contains(allowed, "batch") && (h.Batch < 1 || h.Batch > maxBatch) {
		fault("handler.batch", "must be from 1 to %d messages, is %d", maxBatch, h.Batch)
	}
	switch h.Kind {
	case KindSubprocess:
		h.validateSubprocess(fault)
	case KindHTTP:
		h.validateHTTP(fault)
		h.validateStatus(fault)
	case KindNATS:
		h.validateStatus(fault)
	case KindExec:
		h.validateCommand(fault)
	case KindFile:
		if h.Path == "" {
			fault("handler.path", "must name a directory")
		}
		oneOf(fault, "handler.sync", h.Sync, SyncNone, SyncEach)
	}
}

// validateCommand looks at what all kinds that run a program have in common.
func (h HandlerConfig) validateCommand(fault faultFunc) {
	if len(h.Command) == 0 || h.Command[0] == "" {
		fault("handler.command", "must name a program, like [\"python3\", \"/opt/handler.py\"]")
	}
	for _, name := range append(slices.Sorted(maps.Keys(h.Env)), h.PassEnv...) {
		switch {
		case !validEnv.MatchString(name):
			fault("handler.env", "%q is not a valid name of an environment variable", name)
		case h.Kind == KindExec && strings.HasPrefix(name, varPrefix):
			fault("handler.env", "%q is set by Leasehold itself", name)
		}
	}
}

func (h HandlerConfig) validateSubprocess(fault faultFunc) {
	h.validateCommand(fault)
	if h.Processes < 1 || h.Processes > 1024 {
		fault("handler.processes", "must be from 1 to 1024, is %d", h.Processes)
	}
	within(fault, "handler.start_timeout", h.StartTimeout, 10*time.Millisecond, time.Hour)
	within(fault, "handler.stop_timeout", h.StopTimeout, 10*time.Millisecond, time.Hour)
	if _, err := json.Marshal(h.Config); err != nil {
		fault("handler.config", "cannot be sent to the child: %s", err)
	}
}

func (h HandlerConfig) validateHTTP(fault faultFunc) {
	switch u, err := url.Parse(h.URL); {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		fault("handler.url", "must be a URL like \"https://billing.plant.lan/messages\"") // Not repeated: it may hold a password.
	case u.User != nil:
		fault("handler.url", "must not hold a user or password; put a token into a file and name it in bearer_file")
	case u.Scheme == "http" && (h.CAFile != "" || h.CertFile != "" || h.KeyFile != ""):
		fault("handler.url", "begins with http://, and ca_file, cert_file and key_file are for https://")
	}
	if (h.CertFile == "") != (h.KeyFile == "") {
		fault("handler.cert_file", "goes together with key_file")
	}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		if text := headerFault(name, h.Headers[name]); text != "" {
			fault("handler.headers", "%q %s", name, text)
		}
	}
}

func (h HandlerConfig) validateStatus(fault faultFunc) {
	for _, code := range h.OKStatus {
		if code < 300 || code > 599 {
			fault("handler.ok_status", "must list statuses from 300 to 599, like [409]; has %d", code)
		}
	}
}

// ownHeaders are set from the message or the connection.
var ownHeaders = []string{
	"connection", "content-length", "host", "idempotency-key", "traceparent", "tracestate", "transfer-encoding", "upgrade", "x-idempotency-key",
}

// headerFault says why a header cannot be one of every request. The value is not repeated: it may be a secret.
func headerFault(name, value string) string {
	lower := strings.ToLower(name)
	switch {
	case name == "" || strings.IndexFunc(name, func(r rune) bool { return r > 0x7f || isNoToken(byte(r)) }) >= 0:
		return "is not a valid header name"
	case lower == "authorization":
		return "would be a secret in the config; put the token into a file and name it in bearer_file"
	case slices.Contains(ownHeaders, lower), strings.HasPrefix(lower, "ce-"), strings.HasPrefix(lower, "webhook-"),
		reservedHeader(name):
		return "is not to be set here, Leasehold or the connection does"
	case escape(value, isControl) != value:
		return "has a value with control characters"
	}
	return ""
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
		{"batch", h.Batch != 0},
		{"url", h.URL != ""},
		{"headers", len(h.Headers) > 0},
		{"secret_files", len(h.SecretFiles) > 0},
		{"bearer_file", h.BearerFile != ""},
		{"ca_file", h.CAFile != ""},
		{"cert_file", h.CertFile != ""},
		{"key_file", h.KeyFile != ""},
		{"ok_status", len(h.OKStatus) > 0},
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
