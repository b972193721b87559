package diskguard

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/api"
	"leasehold/internal/bytesize"
	"leasehold/internal/peers"
	"leasehold/server/servertest"
)

func TestTopicsAreResumedOnlyWhenEveryLiveNodeReportsSpace(t *testing.T) {
	live := []string{"n1", "n2"}
	ample, short := peers.Report{}, peers.Report{Disk: peers.Disk{Short: true}}
	for _, c := range []struct {
		name    string
		reports map[string]peers.Report
		want    bool
	}{
		{"all have space", map[string]peers.Report{"n1": ample, "n2": ample}, true},
		{"one is short", map[string]peers.Report{"n1": ample, "n2": short}, false},
		{"one reports nothing", map[string]peers.Report{"n1": ample}, false},
		{"one that is not live any more was short", map[string]peers.Report{"n1": ample, "n2": ample, "n3": short}, true},
	} {
		if got := noneShort(live, c.reports); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestNothingIsGrantedWhileAStreamHasNoLeader: what that stream has is not free, and whatever else was to start need
// not wait for its leader.
func TestNothingIsGrantedWhileAStreamHasNoLeader(t *testing.T) {
	nc, err := servertest.Single(t).Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	lists := 0
	// As a broker of a cluster answers after its four seconds.
	sub, err := nc.Subscribe("cluster.STREAM.LIST", func(m *nats.Msg) {
		lists++
		_ = m.Respond([]byte(`{"total":1,"offset":0,"limit":256,"streams":[],"missing":["orders"]}`))
	})
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.NewWithAPIPrefix(nc, "cluster")
	if err != nil {
		t.Fatal(err)
	}
	c := Capacity{JS: js, MaxStore: bytesize.GiB, Logger: servertest.Logger(t)}
	if free, err := c.free(t.Context()); free != 0 || err != nil {
		t.Errorf("%s is free, %v; want nothing", free, err)
	}
	if r, err := c.Stored(t.Context(), "orders"); !errors.Is(err, api.ErrNotYet) ||
		!strings.Contains(err.Error(), "orders") {
		t.Errorf("the stream without a leader: %+v, %v", r, err)
	}
	if r, err := c.Stored(t.Context(), "dlq_billing"); r.Stream != "" || err != nil {
		t.Errorf("a stream that is not there: %+v, %v", r, err)
	}
	if err := sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	if lists != 4 {
		t.Errorf("the streams were listed %d times, want 4: what is free is looked at twice", lists)
	}
}
