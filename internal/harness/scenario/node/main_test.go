// package node runs one real node whose log, clock or terminal fails it.
package node

import (
	"testing"

	"leasehold/internal/harness/testcluster"
)

func TestMain(m *testing.M) { testcluster.Main(m) }
