package server

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestOnlySummariesAreDropped(t *testing.T) {
	d := &DataDir{path: t.TempDir()}
	kept, dropped := []string{
		"LEASEHOLD/streams/orders/msgs/1.blk", "LEASEHOLD/streams/orders/meta.inf", "SYS/_js_/_meta_/tav.idx", "SYS/_js_/_meta_/msgs/1.blk",
	}, []string{
		"LEASEHOLD/streams/orders/msgs/index.db", "LEASEHOLD/streams/KV_leasehold/msgs/index.db", "SYS/_js_/_meta_/msgs/index.db",
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
	if err := d.dropIndexes(); err != nil {
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

// Texts as nats-server v2.15.2 writes them when a disk is full.
func TestFailedWritesAreNoticed(t *testing.T) {
	for text, want := range map[string]bool{
		"Filestore [KV_leasehold] Critical write error: write 1.blk: no space left on device":       true,
		"RAFT [G9v9V7y4 - _meta_] Critical write error: write tav.idx.tmp: no space left on device": true,
		"JetStream out of File resources, will be DISABLED":                                         false,
	} {
		l := newBrokerLog(hclog.NewNullLogger(), newRoutes(nil))
		l.Errorf("%s", text)
		if got := l.writeFailed.Load(); got != want {
			t.Errorf("%q: noticed %v, want %v", text, got, want)
		}
	}
}
