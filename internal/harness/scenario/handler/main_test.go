// package handler runs handlers of every kind that fail, hang, die and misbehave, on real nodes.
package handler

import (
	"testing"

	"leasehold/internal/harness/testcluster"
)

func TestMain(m *testing.M) { testcluster.Main(m) }
