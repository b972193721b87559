package stream

import (
	"fmt"
	"leasehold/partitioner"
	"leasehold/partitioner/brokertest"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestOfAgreesWithTheServer publishes keys of all kinds and compares where the broker's transform put them.
func TestOfAgreesWithTheServer(t *testing.T) {
	b := brokertest.Start(t, "")
	nc := b.Connect()
	js := brokertest.JetStream(t, nc)
	topics := []partitioner.Topic{
		{Name: "one", Partitions: 1}, {Name: "twelve", Partitions: 12}, {Name: "many", Partitions: 1024},
		{Name: "plant", Partitions: 64, Subject: "plant.*.sensor.*", Key: []int{2, 1}},
		{Name: "site", Partitions: 256, Subject: "site.*.*", Key: []int{2}},
	}
	for _, topic := range topics {
		topic.MaxBytes = 1 << 24
		topic = topic.WithDefaults()
		ensure(t, js, topic)
		var subjects []string
		for i := range 500 {
			subjects = append(subjects, subject(topic, oddToken(i), oddToken(3*i+1)))
		}
		compareWithServer(t, js, topic, subjects)
	}
}

func oddToken(i int) string {
	kinds := []string{"c-%d", "%%C3%%BC%d", "ü%d", "鍵-%d", "a{{partition(3,1)}}%d", "$%d", strings.Repeat("k", 400) + "%d",
		"a>b*%d", "-%d"}
	return fmt.Sprintf(kinds[i%len(kinds)], i)
}

func compareWithServer(t *testing.T, js jetstream.JetStream, topic partitioner.Topic, subjects []string) {
	t.Helper()
	for _, s := range subjects {
		if _, err := js.PublishMsgAsync(&nats.Msg{Subject: s, Data: []byte(s)}); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	cons, err := js.OrderedConsumer(brokertest.Context(t), topic.Name, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for range subjects {
		m, err := cons.Next()
		if err != nil {
			t.Fatal(err)
		}
		want, err := topic.Placement(string(m.Data()))
		if err != nil {
			t.Fatal(err)
		}
		got, err := topic.Parse(m.Subject())
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("%s: the server stored %s, which is %+v; we say %+v", m.Data(), m.Subject(), got, want)
		}
	}
}

// subject puts tokens in the places of a topic's wildcards, as many as there are.
func subject(t partitioner.Topic, tokens ...string) string {
	parts := strings.Split(t.Subject, "*")
	s := parts[0]
	for i, rest := range parts[1:] {
		s += tokens[i] + rest
	}
	return s
}
