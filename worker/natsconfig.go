package worker

import "cmp"

// NATSConfig is the config of the kind "nats". A zero value of any field stands for its default.
type NATSConfig struct {
	OKStatus []int `toml:"ok_status"` // Error codes that mean ok.
	Batch    int   `toml:"batch"`     // Maximum batch size; 1, the default, disables batching.
}

// NATSKind sends messages as requests to a NATS service.
var NATSKind = NewKind("nats", NewNATS, ConformanceNone)

// Defaulted returns c with its zero fields filled in.
func (c NATSConfig) Defaulted() KindConfig {
	c.Batch = cmp.Or(c.Batch, 1)
	return c
}

// Validate reports every fault by its key.
func (c NATSConfig) Validate(fault faultFunc) {
	validateBatch(fault, c.Batch)
	validateOKStatus(fault, c.OKStatus)
}

// Resources say that somebody has to serve the group.
func (c NATSConfig) Resources() Resources { return Resources{Service: true} }

// WithPaths returns c, which names no paths.
func (c NATSConfig) WithPaths(_, _ func(path string) string) KindConfig { return c }

// CheckFiles finds no fault: the config names no files.
func (c NATSConfig) CheckFiles() error { return nil }
