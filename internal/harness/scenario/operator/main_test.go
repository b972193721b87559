// package operator gives operators' commands to real nodes, with a quorum, without one, and under faults.
package operator

import (
	"testing"

	"leasehold/internal/harness/testcluster"
)

func TestMain(m *testing.M) { testcluster.Main(m) }
