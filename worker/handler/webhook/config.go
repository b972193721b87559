package webhook

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"strings"

	"leasehold/worker/handler"
	"leasehold/worker/handler/wire"
	"leasehold/worker/header"
)

// Config is the config of the kind "http". A zero value of any field stands for its default.
type Config struct {
	URL     string            `toml:"url"`     // Where messages are posted to.
	Headers map[string]string `toml:"headers"` // Headers of every request.
	// Each holds a secret that signs requests; several while one is being changed.
	SecretFiles []string `toml:"secret_files"`
	BearerFile  string   `toml:"bearer_file"` // Holds a token for the Authorization header.
	CAFile      string   `toml:"ca_file"`     // Certificates to trust instead of the system's.
	CertFile    string   `toml:"cert_file"`   // Certificate to present, with KeyFile.
	KeyFile     string   `toml:"key_file"`    // Its private key.
	OKStatus    []int    `toml:"ok_status"`   // Statuses besides 2xx that mean ok.
	Batch       int      `toml:"batch"`       // Maximum batch size; 1, the default, disables batching.
}

// Kind posts messages to a URL.
var Kind = handler.NewKind(kindName, New, handler.ConformanceCalls)

const kindName = "http"

// Defaulted returns c with its zero fields filled in.
func (c Config) Defaulted() handler.Config {
	c.Batch = cmp.Or(c.Batch, 1)
	return c
}

// Validate reports every fault by its key.
func (c Config) Validate(fault handler.FaultFunc) {
	switch u, err := url.Parse(c.URL); {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		fault("url", "must be a URL like \"https://billing.plant.lan/messages\"") // Not repeated: it may hold a password.
	case u.User != nil:
		fault("url", "must not hold a user or password; put a token into a file and name it in bearer_file")
	case u.Scheme == "http" && (c.CAFile != "" || c.CertFile != "" || c.KeyFile != ""):
		fault("url", "begins with http://, and ca_file, cert_file and key_file are for https://")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		fault("cert_file", "goes together with key_file")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		if text := headerFault(name, c.Headers[name]); text != "" {
			fault("headers", "%q %s", name, text)
		}
	}
	handler.ValidateBatch(fault, c.Batch)
	wire.ValidateOKStatus(fault, c.OKStatus)
}

// Resources are the files that the config names, and where its secrets go.
func (c Config) Resources() handler.Resources {
	var r handler.Resources
	for _, path := range c.SecretFiles {
		r.Files = append(r.Files, handler.File{Key: "secret_files", Path: path, Private: true})
	}
	for _, f := range []handler.File{
		{Key: "bearer_file", Path: c.BearerFile, Private: true}, {Key: "ca_file", Path: c.CAFile},
		{Key: "cert_file", Path: c.CertFile}, {Key: "key_file", Path: c.KeyFile, Private: true},
	} {
		if f.Path != "" {
			r.Files = append(r.Files, f)
		}
	}
	if c.BearerFile != "" {
		r.SecretURL = c.URL
	}
	return r
}

// WithPaths returns c with each path replaced by the result of file for it.
func (c Config) WithPaths(file, _ func(path string) string) handler.Config {
	c.SecretFiles = slices.Clone(c.SecretFiles)
	for i, name := range c.SecretFiles {
		c.SecretFiles[i] = file(name)
	}
	for _, name := range []*string{&c.BearerFile, &c.CAFile, &c.CertFile, &c.KeyFile} {
		*name = file(*name)
	}
	return c
}

// CheckFiles reports every fault of the files that the config names, each by its key.
func (c Config) CheckFiles() error {
	_, err := readFiles(c)
	return err
}

// ownHeaders are set from the message or the connection.
var ownHeaders = []string{
	"connection", "content-length", "host", "idempotency-key", "traceparent", "tracestate", "transfer-encoding", "upgrade",
	"x-idempotency-key",
}

// headerFault says why a header cannot be sent with every request, "" if it can. The value is not repeated: it may be a
// secret.
func headerFault(name, value string) string {
	lower := strings.ToLower(name)
	switch {
	case name == "" || strings.IndexFunc(name, func(r rune) bool { return r > 0x7f || header.IsNotToken(byte(r)) }) >= 0:
		return "is not a valid header name"
	case lower == "authorization":
		return "would be a secret in the config; put the token into a file and name it in bearer_file"
	case slices.Contains(ownHeaders, lower), strings.HasPrefix(lower, "ce-"), strings.HasPrefix(lower, "webhook-"),
		header.Reserved(name):
		return "is not to be set here, Leasehold or the connection does"
	case header.Escape(value, header.IsControl) != value:
		return "has a value with control characters"
	}
	return ""
}
