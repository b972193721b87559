package worker

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/server/servertest"
)

func TestReadersLiveOnTheirOwnNodeAndAskEveryReplica(t *testing.T) {
	if testing.Short() {
		t.Skip("runs three brokers")
	}
	nodes := servertest.Cluster(t, 3)
	for i, node := range nodes {
		nc, err := node.Conn("test")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		r := newRigOn(t, js, fmt.Sprintf("orders%d", i), 8)
		r.createStream(3)
		r.publish(300)
		if err := r.stream.DeleteMsg(t.Context(), 200); err != nil {
			t.Fatal(err)
		}
		r.local = nc.ConnectedServerName
		r.start(rigOptions{queueEntries: 16, handler: HandlerFunc(r.handle)})
		r.startAll()
		// The message is missing everywhere, which only asking all three can tell.
		eventually(t, waitLimit, func() error {
			for _, s := range r.group.Status() {
				if s.State != StateGap {
					return fmt.Errorf("status %+v", s)
				}
			}
			return nil
		})
		eventually(t, waitLimit, func() error { return r.checkLocal(nc.ConnectedServerName()) })
		r.stop()
	}
}

// checkLocal reports a consumer of the topic that is not on the server named.
func (r *rig) checkLocal(name string) error {
	list := r.stream.ListConsumers(r.t.Context())
	n := 0
	for info := range list.Info() {
		n++
		if info.Cluster == nil || info.Cluster.Leader != name {
			return fmt.Errorf("consumer %s is on %+v, want %s", info.Name, info.Cluster, name)
		}
	}
	if n == 0 {
		return fmt.Errorf("no consumer: %w", list.Err())
	}
	return nil
}
