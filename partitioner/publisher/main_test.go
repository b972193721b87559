package publisher

import (
	"leasehold/partitioner/brokertest"
	"testing"
)

func TestMain(m *testing.M) { brokertest.Main(m) }
