package node

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/api"
	"leasehold/internal/bytesize"
	"leasehold/internal/config"
	"leasehold/server"
	"leasehold/server/servertest"
)

// TestNothingIsGrantedWhileAStreamHasNoLeader: what that stream has is not free, and whatever else was to start need not wait
// for its leader.
func TestNothingIsGrantedWhileAStreamHasNoLeader(t *testing.T) {
	nc, err := servertest.Single(t).Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	lists := 0
	sub, err := nc.Subscribe("cluster.STREAM.LIST", func(m *nats.Msg) { // As a broker of a cluster answers after its four seconds.
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
	n := &Node{Options: Options{Config: &config.Config{Server: server.Config{MaxStore: bytesize.GiB}}}, log: servertest.Logger(t), conns: conns{operator: js}}
	if free, err := n.freeStore(t.Context()); free != 0 || err != nil {
		t.Errorf("%s is free, %v; want nothing", free, err)
	}
	if r, err := n.stored(t.Context(), "orders"); !errors.Is(err, api.ErrNotYet) || !strings.Contains(err.Error(), "orders") {
		t.Errorf("the stream without a leader: %+v, %v", r, err)
	}
	if r, err := n.stored(t.Context(), "dlq_billing"); r.Stream != "" || err != nil {
		t.Errorf("a stream that is not there: %+v, %v", r, err)
	}
	if err := sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	if lists != 4 {
		t.Errorf("the streams were listed %d times, want 4: what is free is looked at twice", lists)
	}
}
