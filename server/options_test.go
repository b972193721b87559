package server

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/bytesize"
	"leasehold/server/access"
	"leasehold/server/datadir"
	"leasehold/server/raft"
)

func TestDefaultConfigIsValid(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}

func TestConfigReportsEveryFaultByItsKey(t *testing.T) {
	err := Config{Listen: "nowhere", Durability: "maybe", MaxPayload: bytesize.GiB, MinFree: 1, Ballast: 1}.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, key := range []string{"listen", "durability", "max_store", "max_memory", "max_payload", "min_free", "ballast"} {
		if !strings.Contains(err.Error(), "server."+key+": ") {
			t.Errorf("error %q does not name server.%s", err, key)
		}
	}
}

func TestOnlyLoopbackMayBeListenedOnWithoutUsers(t *testing.T) {
	for addr, ok := range map[string]bool{
		"127.0.0.1:4222": true, "[::1]:4222": true, "localhost:4222": true, "127.0.0.1:0": true, "127.9.9.9:1": true,
		"0.0.0.0:4222": false, ":4222": false, "10.0.0.1:4222": false, "[::]:4222": false, "example.org:4222": false,
		"127.0.0.1": false, "127.0.0.1:x": false, "127.0.0.1:70000": false, "": false,
	} {
		c := DefaultConfig()
		c.Listen = addr
		if err := errors.Join(c.Validate(), access.CheckReach(addr, 0)); (err == nil) != ok {
			t.Errorf("listen = %q: %v, want it accepted: %v", addr, err, ok)
		}
	}
}

func clusterOptions(t *testing.T) Options {
	t.Helper()
	lan, err := raft.TimingByName("lan")
	if err != nil {
		t.Fatal(err)
	}
	id := datadir.Identity{Node: "n1", Cluster: "plant", Mode: datadir.Cluster}
	dir, err := datadir.Open(t.TempDir(), id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	return Options{
		Config: DefaultConfig(), Identity: id, Dir: dir, Logger: hclog.NewNullLogger(),
		ClusterListen: "127.0.0.1:6222", Timing: lan, Secrets: [][]byte{bytes.Repeat([]byte{1}, 32)},
		Peers: []Peer{{"n1", "127.0.0.1:6222"}, {"n2", "127.0.0.1:6223"}, {"n3", "127.0.0.1:6224"}},
	}
}

func TestClusterOptionsAreChecked(t *testing.T) {
	for part, spoil := range map[string]func(*Options){
		"too few":          func(o *Options) { o.Peers = o.Peers[:2] },
		"not in the list":  func(o *Options) { o.Node = "n9" },
		"secret":           func(o *Options) { o.Secrets = nil },
		"cannot be 0":      func(o *Options) { o.ClusterListen = "127.0.0.1:0" },
		"HOST:PORT":        func(o *Options) { o.ClusterListen = "127.0.0.1" },
		"missing port":     func(o *Options) { o.Peers[1].Address = "b" },
		"cluster.timing":   func(o *Options) { o.Timing = raft.Timing{} },
		"topic.subject":    func(o *Options) { o.PublishSubjects = []string{"a..b"} },
		"Dir and Logger":   func(o *Options) { o.Dir = nil },
		"neither \"single": func(o *Options) { o.Mode = "both" },
	} {
		o := clusterOptions(t)
		if _, err := New(o); err != nil {
			t.Fatalf("before it was spoiled: %v", err)
		}
		spoil(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not say %q", err, part)
		}
	}
}

func TestDurabilityDecidesWhetherEveryWriteIsSynced(t *testing.T) {
	for durability, always := range map[string]bool{powerSafe: true, processSafe: false} {
		o := clusterOptions(t)
		o.Durability = durability
		users, err := o.newCredentials()
		if err != nil {
			t.Fatal(err)
		}
		b, err := o.brokerOptions(users)
		if err != nil {
			t.Fatal(err)
		}
		if b.SyncAlways != always {
			t.Errorf("%s: SyncAlways = %v", durability, b.SyncAlways)
		}
		if !b.NoSigs || b.HTTPPort != 0 || b.JetStreamMaxStore != brokerStore ||
			b.JetStreamMaxMemory != int64(o.MaxMemory) || len(b.Routes) != 3 {
			t.Errorf("%s: broker options are %+v", durability, b)
		}
	}
}

func TestTheBrokersBuffersFollowTheMemoryLimit(t *testing.T) {
	users, err := clusterOptions(t).newCredentials()
	if err != nil {
		t.Fatal(err)
	}
	before := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(before)
	for limit, want := range map[int64][2]int64{
		math.MaxInt64: {128 << 20, 64 << 20}, 192 << 20: {24 << 20, 24 << 20},
		16 << 20: {8 * int64(bytesize.MiB+deadLetterRoom), 8 * int64(bytesize.MiB+deadLetterRoom)},
	} {
		debug.SetMemoryLimit(limit)
		b, err := clusterOptions(t).brokerOptions(users)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]int64{b.StreamMaxBufferedSize, b.JetStreamMaxCatchup}; got != want {
			t.Errorf("with a limit of %d: %d, want %d", limit, got, want)
		}
	}
}

// Its votes are gone: joining as if it had never voted, it could help to elect a second leader, and as a survivor of
// nothing it would delete its streams as orphans.
func TestStoreThatLostItsClusterStateIsRefused(t *testing.T) {
	meta := filepath.Join(systemAccount, "_js_", "_meta_")
	for name, c := range map[string]struct {
		formed bool
		dirs   []string
		ok     bool
	}{
		"new":                  {false, nil, true},
		"running":              {true, []string{Account, meta}, true},
		"interrupted start":    {false, []string{meta}, true},
		"streams without meta": {false, []string{Account}, false},
		"formed, all gone":     {true, nil, false},
	} {
		o := clusterOptions(t)
		for _, d := range c.dirs {
			if err := os.MkdirAll(filepath.Join(o.Dir.StoreDir(), d), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if c.formed {
			if err := o.Dir.SetFormed(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := New(o); (err == nil) != c.ok {
			t.Errorf("%s: %v, want it accepted: %v", name, err, c.ok)
		}
	}
}
