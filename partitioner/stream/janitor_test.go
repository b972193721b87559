package stream

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/bytesize"
	"leasehold/partitioner/brokertest"
)

// TestWrongClockPurgesNothingThatIsToBeRetained: one clock that is ahead, of this node or of the stream's leader.
func TestWrongClockPurgesNothingThatIsToBeRetained(t *testing.T) {
	js := brokertest.JetStream(t, brokertest.Start(t, "").Connect())
	topic := orders()
	topic.MaxBytes, topic.Retain = 8*bytesize.MiB, time.Hour
	stream := ensure(t, js, topic)
	for range 3 {
		if _, err := js.Publish(t.Context(), "orders.a", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	var retain, ahead time.Duration
	j := &Janitor{
		Topic: topic, JS: js, Logger: hclog.NewNullLogger(), Now: func() time.Time { return time.Now().Add(ahead) },
		Finished: func(context.Context) (Finished, bool, error) { return Finished{Seq: 3, Retain: retain}, true, nil },
		Record:   func(context.Context, Finished, uint64) error { return nil },
	}
	for name, c := range map[string]struct {
		retain, ahead time.Duration
		left          uint64
	}{
		"10 days ahead": {time.Hour, 240 * time.Hour, 3}, "in 1970": {time.Hour, time.Until(time.Unix(0, 0)), 3},
		"years ahead": {time.Hour, 1e5 * time.Hour, 3},
	} {
		retain, ahead = c.retain, c.ahead
		if err := j.purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != c.left {
			t.Errorf("%s: %d messages left, %v", name, info.State.Msgs, err)
		}
	}
	retain, ahead = time.Nanosecond, 0
	if err := j.purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != 0 {
		t.Errorf("%d messages are left that are old enough, %v", info.State.Msgs, err)
	}
}

// TestReplicaThatLagsPurgesNothing: the leader has a young message, and the copy that is asked has none.
func TestReplicaThatLagsPurgesNothing(t *testing.T) {
	js := brokertest.JetStream(t, brokertest.Start(t, "").Connect())
	topic := orders()
	topic.MaxBytes, topic.Retain = 8*bytesize.MiB, time.Hour
	ensure(t, js, topic)
	j := &Janitor{Topic: topic, JS: js, Logger: hclog.NewNullLogger()}
	now := time.Now()
	for last, want := range map[time.Time]uint64{now.Add(-time.Minute): 0, now.Add(-2 * time.Hour): 7} {
		info := &jetstream.StreamInfo{TimeStamp: now, State: jetstream.StreamState{LastSeq: 9, LastTime: last}}
		if got, err := j.retained(t.Context(), Finished{Seq: 7, Retain: time.Hour}, info); got != want || err != nil {
			t.Errorf("youngest message from %s: purged up to %d, %v; want %d", now.Sub(last), got, err, want)
		}
	}
}
