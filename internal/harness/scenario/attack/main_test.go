// package attack attacks real nodes: what once stopped partitions, nodes or clusters is sent again.
package attack

import (
	"testing"

	"leasehold/internal/harness/testcluster"
)

func TestMain(m *testing.M) { testcluster.Main(m) }
