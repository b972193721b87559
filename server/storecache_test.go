package server_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/server"
	"leasehold/server/servertest"
)

// TestFullBlocksGiveUpTheirCaches: of a stream and, where there is one, of its Raft log. The block that is written
// keeps its own.
func TestFullBlocksGiveUpTheirCaches(t *testing.T) {
	t.Parallel()
	for name, nodes := range map[string][]*server.Server{"single": {servertest.Single(t)},
		"cluster": servertest.Cluster(t, 3)} {
		t.Run(name, func(t *testing.T) { fullBlocksGiveUp(t, nodes) })
	}
}

func fullBlocksGiveUp(t *testing.T, nodes []*server.Server) {
	nc, err := nodes[0].Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "big", Subjects: []string{"big"},
		Replicas: nodes[0].Replicas()}); err != nil {
		t.Fatal(err)
	}
	const count = 40
	for range count {
		if _, err := js.Publish(ctx, "big", bytes.Repeat([]byte("x"), 1_000_000)); err != nil {
			t.Fatal(err)
		}
	}
	servertest.Eventually(t, 30*time.Second, func() error {
		for i, node := range nodes {
			full := node.FullBlocks()
			if len(full) < 3 {
				return fmt.Errorf("node %d has %d full blocks", i, len(full))
			}
			for _, b := range full {
				if b.Expire >= 10*time.Second || b.Cached {
					return fmt.Errorf("node %d: a full block is %+v", i, b)
				}
			}
		}
		return nil
	})
}
