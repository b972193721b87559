package natsrpc

import (
	"cmp"

	"leasehold/worker/handler"
	"leasehold/worker/handler/wire"
)

// Config is the config of the kind "nats". A zero value of any field stands for its default.
type Config struct {
	OKStatus []int `toml:"ok_status"` // Error codes that mean ok.
	Batch    int   `toml:"batch"`     // Maximum batch size; 1, the default, disables batching.
}

// Kind sends messages as requests to a NATS service.
var Kind = handler.NewKind("nats", New, handler.ConformanceNone)

// Defaulted returns c with its zero fields filled in.
func (c Config) Defaulted() handler.Config {
	c.Batch = cmp.Or(c.Batch, 1)
	return c
}

// Validate reports every fault by its key.
func (c Config) Validate(fault handler.FaultFunc) {
	handler.ValidateBatch(fault, c.Batch)
	wire.ValidateOKStatus(fault, c.OKStatus)
}

// Resources say that somebody has to serve the group.
func (c Config) Resources() handler.Resources { return handler.Resources{Service: true} }

// WithPaths returns c, which names no paths.
func (c Config) WithPaths(_, _ func(path string) string) handler.Config { return c }

// CheckFiles finds no fault: the config names no files.
func (c Config) CheckFiles() error { return nil }
