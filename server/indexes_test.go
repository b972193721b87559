package server

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// store makes files in the store directory.
func store(t *testing.T, d *DataDir, names ...string) {
	t.Helper()
	for _, name := range names {
		file := filepath.Join(d.StoreDir(), name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// wantStored compares which of these files are there.
func wantStored(t *testing.T, d *DataDir, want bool, names ...string) {
	t.Helper()
	for _, name := range names {
		if there, err := exists(filepath.Join(d.StoreDir(), name)); err != nil || there != want {
			t.Errorf("%s: is there: %v (%v), want %v", name, there, err, want)
		}
	}
}

func TestSummariesAreBelievedOnceAfterAStopInOrder(t *testing.T) {
	messages := []string{
		"LEASEHOLD/streams/orders/msgs/1.blk", "LEASEHOLD/streams/orders/meta.inf", "SYS/_js_/_meta_/tav.idx", "SYS/_js_/_meta_/msgs/1.blk",
	}
	summaries := []string{
		"LEASEHOLD/streams/orders/msgs/index.db", "LEASEHOLD/streams/KV_leasehold/msgs/index.db", "SYS/_js_/_meta_/msgs/index.db",
	}
	start := func(d *DataDir, want int) {
		t.Helper()
		if dropped, err := d.checkIndexes(); err != nil || dropped != want {
			t.Fatalf("a start drops %d summaries (%v), want %d", dropped, err, want)
		}
		wantStored(t, d, want == 0, summaries...)
		wantStored(t, d, true, messages...)
	}
	stop := func(d *DataDir) {
		t.Helper()
		if err := d.keepIndexes(); err != nil {
			t.Fatal(err)
		}
	}
	d := &DataDir{path: t.TempDir()}
	if dropped, err := d.checkIndexes(); err != nil || dropped != 0 {
		t.Fatalf("a first start drops %d summaries: %v", dropped, err)
	}
	store(t, d, append(messages, summaries...)...)
	stop(d)
	start(d, 0)
	start(d, len(summaries)) // the run before has not stopped
	store(t, d, summaries...)
	stop(d)
	if err := os.Truncate(filepath.Join(d.path, wholeFile), 5); err != nil {
		t.Fatal(err)
	}
	start(d, len(summaries))
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
