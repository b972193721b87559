// package membership has real nodes join and leave, lose their disks, and differ in their configs.
package membership

import (
	"testing"

	"leasehold/internal/harness/testcluster"
)

func TestMain(m *testing.M) { testcluster.Main(m) }
