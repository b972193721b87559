package registry

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-hclog"
)

// Redefine overwrites a record that is not valid, which something other than a node has written, and returns what is
// stored then. fault is what is wrong with it; disagrees says what else that is stored contradicts want, nil if nothing
// does.
func (r Record[T]) Redefine(ctx context.Context, log hclog.Logger, fault error, want T, disagrees error) (T, error) {
	if disagrees != nil {
		var none T
		return none, fmt.Errorf("%w, and this node's config cannot take its place: %w; start a node first whose config "+
			"agrees with what is "+
			"stored, and see \"A record is not valid\" in docs/operations.md", fault, disagrees)
	}
	log.Error("definition is not a valid record: writing it again from this node's config; look for what wrote it",
		"key", r.key, "fault", fault)
	return r.Replace(ctx, want)
}
