package node

import (
	"testing"

	"leasehold/worker"
)

func TestEveryHandlerKindCanBeBuilt(t *testing.T) {
	for _, kind := range worker.Kinds() {
		if newHandler[kind] == nil {
			t.Errorf("the config takes kind %q, and nothing builds it", kind)
		}
	}
	if len(newHandler) != len(worker.Kinds()) {
		t.Errorf("%d kinds can be built, %d named", len(newHandler), len(worker.Kinds()))
	}
}
