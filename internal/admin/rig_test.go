package admin_test

import (
	"flag"
	"os"
	"testing"

	"leasehold/internal/node/nodetest"
)

// TestMain runs more tests side by side than there are processors: they start nodes and wait for them.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "4")
	os.Exit(m.Run())
}

// one is a node with a file handler.
type one struct{ *nodetest.One }

// obedient is a node whose handler does as it is told.
type obedient struct {
	*nodetest.Obedient
	t *testing.T
}

func newObedient(t *testing.T, group string) *obedient {
	return &obedient{nodetest.NewObedient(t, group), t}
}
