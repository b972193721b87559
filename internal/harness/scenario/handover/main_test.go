// package handover kills, freezes and stops real nodes, and looks at who takes their partitions, when and how.
package handover

import (
	"testing"

	"leasehold/internal/harness/testcluster"
)

func TestMain(m *testing.M) { testcluster.Main(m) }
