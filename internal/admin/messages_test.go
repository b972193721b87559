package admin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"leasehold/internal/api"
	"leasehold/internal/node/nodetest"
)

// tapped is what a tap shows until its end, as "seq:data".
func (o one) tapped(t *testing.T, opt api.TapOptions) (shown []string) {
	t.Helper()
	s, err := api.NewClient(o.Config.SocketPath()).Tap(context.Background(), "orders", opt)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for {
		m, err := s.Next()
		if errors.Is(err, io.EOF) {
			return shown
		}
		if err != nil {
			t.Fatal(err)
		}
		shown = append(shown, fmt.Sprintf("%d:%s", m.Seq, m.Bytes()))
	}
}

func TestTapShowsMessagesOfANodeWithoutConsumingThem(t *testing.T) {
	t.Parallel()
	o := one{nodetest.NewOne(t, `retain = "1h"`)}
	o.Start(t)
	c := api.NewClient(o.Config.SocketPath())
	ctx := context.Background()
	follow, err := c.Tap(ctx, "orders", api.TapOptions{Last: 0, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer follow.Close()
	o.Publish(t, 0, 200)
	for i := range 200 {
		if m, err := follow.Next(); err != nil || m.Seq != uint64(i+1) {
			t.Fatalf("following: got %+v, %v", m, err)
		}
	}
	seq := map[string]string{} // Keys are published side by side, so that any message may have any sequence.
	for _, line := range o.tapped(t, api.TapOptions{Last: 200}) {
		n, data, _ := strings.Cut(line, ":")
		seq[data] = n
	}
	for _, c := range []struct {
		opt  api.TapOptions
		want []string
	}{
		{api.TapOptions{Key: "k7", Last: 2}, []string{seq["167"] + ":167", seq["187"] + ":187"}},
		{api.TapOptions{Key: "nobody", Last: 2}, nil},
	} {
		if got := o.tapped(t, c.opt); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%+v: got %v, want %v", c.opt, got, c.want)
		}
	}
	m, err := c.Message(ctx, "orders", 200)
	if err != nil || m.ID != fmt.Sprintf("orders/%d/200", m.Partition) || m.Headers["Nats-Msg-Id"] == nil {
		t.Errorf("message 200: %+v, %v", m, err)
	}
	if _, err := c.Message(ctx, "orders", 201); !errors.Is(err, api.ErrNotFound) ||
		!strings.Contains(err.Error(), "not stored yet") {
		t.Errorf("message 201: %v", err)
	}
	total := uint64(0)
	for p := range 8 {
		n, err := c.Count(ctx, "orders", api.CountOptions{Partition: p, After: 0, Before: 201})
		if err != nil {
			t.Fatal(err)
		}
		total += n
		if got := o.tapped(t, api.TapOptions{Partition: &p, FromSeq: 1}); uint64(len(got)) != n {
			t.Errorf("partition %d shows %d messages, and counts %d", p, len(got), n)
		}
	}
	for _, o2 := range []api.CountOptions{{Before: 1}, {After: 5, Before: 6}, {After: 50, Before: 40},
		{After: 200, Before: 1000}} {
		if n, err := c.Count(ctx, "orders", o2); err != nil || n != 0 {
			t.Errorf("%+v: counted %d, %v", o2, n, err)
		}
	}
	if total != 200 {
		t.Errorf("the partitions have %d messages", total)
	}
	o.WaitIdle(t, 200)
	o.End(t)
	if _, err := follow.Next(); !errors.Is(err, api.ErrUnreachable) {
		t.Errorf("after the node's stop: %v", err)
	}
}
