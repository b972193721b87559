// package storage damages, fills and resizes what real nodes store.
package storage

import (
	"testing"

	"leasehold/internal/harness/testcluster"
)

func TestMain(m *testing.M) { testcluster.Main(m) }
