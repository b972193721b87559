package ingress

import (
	"flag"
	"os"
	"testing"
)

// TestMain runs more tests side by side than there are processors: they wait for time limits most of the time.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "8")
	os.Exit(m.Run())
}
