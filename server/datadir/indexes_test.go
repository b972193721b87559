package datadir

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOnlySummariesAreDropped(t *testing.T) {
	d := &Dir{path: t.TempDir()}
	kept, dropped := []string{
		"LEASEHOLD/streams/orders/msgs/1.blk", "LEASEHOLD/streams/orders/meta.inf", "SYS/_js_/_meta_/tav.idx",
		"SYS/_js_/_meta_/msgs/1.blk",
	}, []string{
		"LEASEHOLD/streams/orders/msgs/index.db", "LEASEHOLD/streams/KV_leasehold/msgs/index.db",
		"SYS/_js_/_meta_/msgs/index.db",
	}
	for _, name := range append(kept, dropped...) {
		file := filepath.Join(d.StoreDir(), name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.DropIndexes(); err != nil {
		t.Fatal(err)
	}
	for _, name := range kept {
		if _, err := os.Stat(filepath.Join(d.StoreDir(), name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range dropped {
		if _, err := os.Stat(filepath.Join(d.StoreDir(), name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
}
