package stream

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/bytesize"
	"leasehold/partitioner"
	"leasehold/partitioner/brokertest"
)

func TestEnsureStreamCreatesWhatTheDesignSays(t *testing.T) {
	js := brokertest.JetStream(t, brokertest.Start(t, "").Connect())
	cfg := ensure(t, js, orders()).CachedInfo().Config
	if cfg.Storage != jetstream.FileStorage || cfg.Retention != jetstream.LimitsPolicy ||
		cfg.Discard != jetstream.DiscardNew || !cfg.DenyDelete || !cfg.AllowDirect || cfg.MaxAge != 0 ||
		cfg.MaxBytes != int64(64*bytesize.MiB) || cfg.DenyPurge ||
		cfg.MaxMsgSize != 1<<20+int32(requeueHeadroom) || cfg.Duplicates != 2*time.Minute ||
		cfg.MaxConsumers != MaxConsumers || cfg.Replicas != 1 {
		t.Errorf("created as %+v", cfg)
	}
	want := jetstream.SubjectTransformConfig{Source: "orders.*",
		Destination: "orders.1.{{partition(12,1)}}.{{wildcard(1)}}"}
	if *cfg.SubjectTransform != want || cfg.Metadata[metaLayout] != "1" {
		t.Errorf("transform %+v, metadata %v", *cfg.SubjectTransform, cfg.Metadata)
	}
}

func TestEnsureStreamUpdatesLimitsAndKeepsTheTransform(t *testing.T) {
	js := brokertest.JetStream(t, brokertest.Start(t, "").Connect())
	created := ensure(t, js, orders()).CachedInfo().Config
	topic := orders()
	topic.MaxBytes, topic.DedupWindow, topic.Retain = 8*bytesize.MiB, time.Minute, time.Hour
	cfg := ensure(t, js, topic).CachedInfo().Config
	if cfg.MaxBytes != int64(topic.MaxBytes) || cfg.Duplicates != topic.DedupWindow ||
		*cfg.SubjectTransform != *created.SubjectTransform {
		t.Errorf("updated to %+v", cfg)
	}
}

// TestEnsureStreamOnlyRaisesTheLargestMessage: a stream of before there was room for a requeue, then nodes with other
// max_payloads.
func TestEnsureStreamOnlyRaisesTheLargestMessage(t *testing.T) {
	js := brokertest.JetStream(t, brokertest.Start(t, "").Connect())
	old := ensure(t, js, orders()).CachedInfo().Config
	old.MaxMsgSize = 1 << 20
	if _, err := js.UpdateStream(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		payload bytesize.Size
		want    int32
	}{
		{bytesize.MiB, 1<<20 + 32<<10}, {bytesize.KiB, 1<<20 + 32<<10}, {2 * bytesize.MiB, 2<<20 + 32<<10}, {0, -1},
		{bytesize.MiB, -1},
	} {
		stream, err := Ensure(brokertest.Context(t), js, orders(), Options{Replicas: 1, MaxPayload: c.payload})
		if err != nil {
			t.Fatal(err)
		}
		if got := stream.CachedInfo().Config.MaxMsgSize; got != c.want {
			t.Errorf("max_payload %v: largest message %d, want %d", c.payload, got, c.want)
		}
	}
}

func TestEnsureStreamRefusesAnotherDefinition(t *testing.T) {
	js := brokertest.JetStream(t, brokertest.Start(t, "").Connect())
	topic := partitioner.Topic{Name: "orders", Partitions: 12, Subject: "orders.eu.*.*",
		MaxBytes: bytesize.MiB}.WithDefaults()
	ensure(t, js, topic)
	for field, change := range map[string]func(*partitioner.Topic){
		"partitions is 12 in the cluster but 64": func(t *partitioner.Topic) { t.Partitions = 64 },
		"key is [1] in the cluster but [2, 1]":   func(t *partitioner.Topic) { t.Key = []int{2, 1} },
		`subject is "orders.eu.*.*" in the cluster but "orders.us.*.*" in this co`: func(t *partitioner.Topic) {
			t.Subject = "orders.us.*.*"
		},
	} {
		other := topic
		change(&other)
		_, err := Ensure(brokertest.Context(t), js, other, Options{Replicas: 1, MaxPayload: bytesize.MiB})
		var mismatch *MismatchError
		if !errors.As(err, &mismatch) || len(mismatch.Differences) != 1 || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	var mismatch *MismatchError
	_, err := Ensure(brokertest.Context(t), js, topic, Options{Replicas: 3})
	if !errors.As(err, &mismatch) || !strings.Contains(err.Error(), "replicas is 1 in the cluster but 3") {
		t.Errorf("replicas: %v", err)
	}
}

func TestEnsureStreamRefusesForeignStreams(t *testing.T) {
	js := brokertest.JetStream(t, brokertest.Start(t, "").Connect())
	if _, err := js.CreateStream(brokertest.Context(t), jetstream.StreamConfig{Name: "orders",
		Subjects: []string{"orders.*"}}); err != nil {
		t.Fatal(err)
	}
	var mismatch *MismatchError
	_, err := Ensure(brokertest.Context(t), js, orders(), Options{Replicas: 1})
	if !errors.As(err, &mismatch) || !strings.Contains(err.Error(), "not a stream of ours") {
		t.Errorf("got %v", err)
	}
}

func TestEnsureStreamDoesNotWaitForWhatCannotWork(t *testing.T) {
	js := brokertest.JetStream(t, brokertest.Start(t, "").Connect())
	if _, err := js.CreateStream(brokertest.Context(t), jetstream.StreamConfig{Name: "other",
		Subjects: []string{"orders.>"}}); err != nil {
		t.Fatal(err)
	}
	for _, opt := range []Options{{Replicas: 1}, {Replicas: 3}} { // overlapping subjects; replicas without a cluster
		if _, err := Ensure(context.Background(), js, orders(), opt); err == nil {
			t.Error("no error")
		}
	}
	topic := orders()
	topic.MaxBytes = 0
	if _, err := Ensure(context.Background(), js, topic, Options{Replicas: 1}); err == nil {
		t.Error("a topic without max_bytes is created")
	}
}

func TestEnsureStreamWaitsForTheBroker(t *testing.T) {
	t.Parallel() // a request to the stopped broker takes its time
	b := brokertest.Start(t, "")
	js := brokertest.JetStream(t, b.Connect())
	b.Stop()
	waited := make(chan struct{}, 100)
	done := make(chan error, 1)
	go func() {
		_, err := Ensure(brokertest.Context(t), js, orders(),
			Options{Replicas: 1, Waiting: func(error) { waited <- struct{}{} }})
		done <- err
	}()
	<-waited
	b.Start()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestEnsureStreamAsksAgainSoon: a stream without a leader answers no question that it was asked meanwhile.
func TestEnsureStreamAsksAgainSoon(t *testing.T) {
	t.Parallel()
	nc := brokertest.Start(t, "").Connect()
	asked := 0
	_, err := nc.Subscribe("SLOW.API.>", func(m *nats.Msg) {
		if asked++; asked == 1 {
			return
		}
		answer, err := nc.Request("$JS."+strings.TrimPrefix(m.Subject, "SLOW."), m.Data, 5*time.Second)
		if err != nil {
			t.Error(err)
			return
		}
		m.Respond(answer.Data)
	})
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.NewWithAPIPrefix(nc, "SLOW.API")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), createTimeout-time.Second)
	defer cancel()
	if _, err := Ensure(ctx, js, orders(), Options{Replicas: 1}); err != nil {
		t.Error(err)
	}
}

func TestEnsureStreamEndsWithItsContext(t *testing.T) {
	b := brokertest.Start(t, "")
	js := brokertest.JetStream(t, b.Connect())
	b.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := Ensure(ctx, js, orders(), Options{Replicas: 1}); err == nil {
		t.Error("no error from a stopped broker")
	}
	b.Start()
}
