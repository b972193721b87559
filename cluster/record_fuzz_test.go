package cluster

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"leasehold/cluster/lease"
)

// A real record of each kind, and what a damaged disk, another version or a
// person with a tool might have made of it.
var storedRecords = []struct{ key, data string }{
	{"session.n1", `{"v":1,"node":"n1","boot":3,"state":"live","nonce":"a1","dir_id":"d","kernel_boot":"k",` +
		`"lock_dev":1,"lock_ino":2,"ttl_ns":5000000000,"groups":["billing"],"weight":1,"leaving":false,` +
		`"server_id":"S","address":"10.0.0.1:6222","release":"0.1.0"}`},
	{"session.n2", `{"v":1,"node":"n2","boot":18446744073709551615,"state":"dead","ttl_ns":-1,"groups":null}`},
	{"session.n2", `{"node":"somebody else","state":"LIVE","groups":["","billing","billing"],` +
		`"weight":-5,"ttl_ns":9223372036854775807}`},
	{"session.n1", `{"boot":-1}`},
	{"session.", `{}`},
	{"lease.billing.00001", `{"v":1,"owner":"n1","boot":3,"epoch":41,"checkpoint":1007,"attempt":2,"successor":"n2"}`},
	{"lease.billing.00000", `{"owner":"n2","boot":0,"epoch":18446744073709551615,` +
		`"checkpoint":18446744073709551615,"attempt":-1,"release":"* a b"}`},
	{"lease.billing.1", `{"owner":"\ud800","paused":"why"}`},
	{"lease.billing.99999999999999999999", `{}`},
	{"lease.billing.-1", `{}`},
	{"lease.a.b.c", `null`},
	{"control.billing", `{"v":1,"last_id":2,"open":[{"id":1,"kind":"pause","reason":"x"},` +
		`{"id":2,"kind":"seek","partitions":[0,-7,9999999],"seq":5}]}`},
	{"control.billing", `{"last_id":0,"open":[{"id":18446744073709551615,"kind":"no such thing","keys":"*"},{}]}`},
	{"control.", `[]`},
	{"cluster", `{"v":1}`},
	{"", ""},
	{"session.n1", ""},
	{"session.n1", pubAck}, {"lease.billing.00001", pubAck}, {"control.billing", pubAck},
	{"session.n1", traceEvent}, {"lease.billing.00001", traceEvent}, {"control.billing", traceEvent},
	{"lease.billing.00001", `{"owner":`},
}

// What a broker itself may have been made to publish to a key: an acknowledgement, and a trace event.
const (
	pubAck     = `{"stream":"orders","seq":17,"domain":"","duplicate":true}`
	traceEvent = `{"server":{"name":"n1-a","host":"10.0.0.1","id":"NA","ver":"2.15.2","jetstream":true,"seq":9,` +
		`"time":"2026-01-01T00:00:00Z"},` +
		`"request":{"header":{"X":["a"]},"msgsize":21},"hops":0,"events":[{"type":"in",` +
		`"ts":"2026-01-01T00:00:00Z","kind":0,"cid":5,"name":"x","acc":"LEASEHOLD","subj":"orders.a"}]}`
)

// Whatever is stored under a key of ours is refused, or comes back from being
// stored again as it was; and a node that sees it does not panic.
func FuzzStoredRecord(f *testing.F) {
	for i, r := range storedRecords {
		f.Add(r.key, uint64(i), []byte(r.data))
	}
	f.Fuzz(func(t *testing.T, name string, rev uint64, data []byte) {
		key, ok := parseKey(name)
		if !ok {
			return
		}
		if again, ok := parseKey(key.String()); !ok || again != key {
			t.Fatalf("key %q is %+v, spelled again %q, %+v", name, key, key.String(), again)
		}
		obs, err := decode(key, rev, data)
		if err != nil {
			if obs.Invalid == "" || obs.Revision != rev || obs.Session != nil || obs.Lease != nil || obs.Commands != nil {
				t.Fatalf("%s is refused, and seen as %+v", data, obs)
			}
			feed(obs)
			return
		}
		stored := encodeSaw(t, obs)
		again, err := decode(key, rev, stored)
		if err != nil || !reflect.DeepEqual(again, obs) || len(data) > 0 && valid(obs) != nil {
			t.Fatalf("%s is %s, stored again %s: %v", name, data, encodeSaw(t, again), err)
		}
		feed(obs)
	})
}

// What another node announces is left alone, or is a record of one kind.
func FuzzAnnouncement(f *testing.F) {
	for _, r := range storedRecords {
		for _, field := range []string{"session", "lease", "requests"} {
			f.Add([]byte(`{"key":"` + r.key + `","rev":7,"` + field + `":` + r.data + `}`))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var a announcement
		if json.Unmarshal(data, &a) != nil {
			return
		}
		obs, ok := a.observed()
		if !ok {
			return
		}
		kinds := 0
		for _, there := range []bool{obs.Session != nil, obs.Lease != nil, obs.Commands != nil} {
			if there {
				kinds++
			}
		}
		if kinds != 1 || obs.Revision == 0 {
			t.Fatalf("%s decodes as %+v", data, obs)
		}
		feed(obs)
	})
}

// encodeSaw is the record as it is stored; nothing for one that is not there.
func encodeSaw(t *testing.T, obs lease.Observed) []byte {
	t.Helper()
	var value any
	switch {
	case obs.Session != nil:
		value = obs.Session
	case obs.Lease != nil:
		value = obs.Lease
	case obs.Commands != nil:
		value = obs.Commands
	default:
		return nil
	}
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatalf("%+v: %v", value, err)
	}
	return data
}

// feed shows the record to a node that starts, to one that runs, and to one
// that ends.
func feed(obs lease.Observed) {
	cfg := lease.Config{
		Self:   lease.Session{Node: "n1", DirID: "d", KernelBoot: "k", LockDev: 1, LockIno: 2, Weight: 1},
		Secret: "s", Groups: []lease.Group{{Name: "billing", Partitions: 4, Handover: time.Second}},
		TTL: 5 * time.Second, Renew: time.Second, Margin: time.Second, WriteLimit: time.Second / 2,
		StabilizationWindow: time.Second,
	}
	for when := range 3 {
		f := &fed{core: lease.New(cfg), revision: obs.Revision, lanes: make(map[lease.Key]lease.Start)}
		if when == 0 {
			f.take(obs)
		}
		f.take(lease.Synced{})
		f.pass(3 * time.Second)
		f.take(obs)
		f.pass(12 * time.Second)
		if when == 2 {
			f.take(lease.Stop{})
			f.take(obs)
		}
		f.pass(3 * time.Second)
	}
}

// fed is a core whose every wish comes true at once.
type fed struct {
	core     *lease.Core
	now      lease.Time
	revision uint64 // of the last write
	lanes    map[lease.Key]lease.Start
	exited   bool
}

func (f *fed) pass(d time.Duration) {
	for until := f.now + d; f.now < until && !f.exited; f.now += time.Second / 10 {
		f.take(lease.Tick{})
	}
}

// take steps with the input, and with what comes of it, up to a number of
// steps that no sound exchange needs.
func (f *fed) take(in lease.Input) {
	next := []lease.Input{in}
	for steps := 0; len(next) > 0 && !f.exited; steps++ {
		if steps > 1000 {
			panic("the core never has enough")
		}
		in, next = next[0], next[1:]
		for _, a := range f.core.Step(f.now, in) {
			next = f.do(a, next)
		}
	}
}

func (f *fed) do(a lease.Action, next []lease.Input) []lease.Input {
	switch a := a.(type) {
	case lease.Write:
		f.revision++
		return append(next, lease.WriteDone{ID: a.ID, OK: true, Revision: f.revision})
	case lease.SaveBoot:
		return append(next, lease.SavedBoot(a))
	case lease.Start:
		f.lanes[a.Key] = a
	case lease.Drain:
		return append(next, lease.Stopped{Key: a.Key, Epoch: f.lanes[a.Key].Epoch, Progress: f.lanes[a.Key].Progress})
	case lease.Cancel:
		return append(next, lease.Stopped{Key: a.Key, Epoch: f.lanes[a.Key].Epoch, Progress: f.lanes[a.Key].Progress})
	case lease.Exit:
		f.exited = true
	}
	return next
}
