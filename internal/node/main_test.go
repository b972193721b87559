package node

import (
	"flag"
	"os"
	"testing"
)

// TestMain runs more tests side by side than there are processors: they start nodes and wait for them.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "4")
	os.Exit(m.Run())
}
