package node_test

import (
	"context"
	"fmt"
	"leasehold/internal/api"
	"leasehold/internal/node/nodetest"
	"leasehold/server/servertest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// one is a node with a file handler.
type one struct{ *nodetest.One }

func newOne(t *testing.T, topic string) *one { return &one{nodetest.NewOne(t, topic)} }

func TestNodeProcessesInOrderAndGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	o := newOne(t, "")
	o.Start(t)
	o.Publish(t, 0, 1000)
	o.WaitIdle(t, 1000)
	o.End(t)
	o.Start(t)
	o.Publish(t, 1000, 1500)
	o.WaitIdle(t, 1500)
	o.End(t)
	for k := range 20 {
		var want []string
		for i := k; i < 1500; i += 20 {
			want = append(want, fmt.Sprint(i))
		}
		if got := o.Lines(t)[fmt.Sprint("k", k)]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("key k%d: got %v, want %v", k, got, want)
		}
	}
}

func TestStatusCountsWhatClientsAreRefused(t *testing.T) {
	t.Parallel()
	o := newOne(t, "")
	o.Start(t)
	nc, err := nats.Connect("nats://" + o.Config.Server.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for range 3 {
		m := &nats.Msg{Subject: "orders.a", Header: nats.Header{"Nats-Rollup": {"all"}}}
		if answer, err := nc.RequestMsg(m, time.Minute); err != nil ||
			!strings.Contains(string(answer.Data), `"err_code":20003`) {
			t.Fatalf("answered with %v, %v", answer, err)
		}
	}
	servertest.Eventually(t, time.Minute, func() error {
		s, err := api.NewClient(o.Config.SocketPath()).Status(context.Background())
		want := api.Refused{User: "anonymous", Reason: "header_not_allowed", Count: 3}
		if err == nil && !slices.Contains(s.Nodes[0].Refused, want) {
			err = fmt.Errorf("refused: %+v", s.Nodes[0].Refused)
		}
		if err == nil && !slices.Equal(s.Listen, []string{o.Config.Server.Listen, o.HTTP}) {
			t.Errorf("listens at %v", s.Listen)
		}
		return err
	})
	o.End(t)
}
