package partitioner

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestOfNeverChanges(t *testing.T) {
	f, err := os.Open("testdata/golden.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := 0
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if strings.HasPrefix(sc.Text(), "#") {
			continue
		}
		fields := strings.SplitN(sc.Text(), "\t", 3)
		n, err1 := strconv.Atoi(fields[0])
		want, err2 := strconv.Atoi(fields[1])
		if err1 != nil || err2 != nil {
			t.Fatalf("bad line %q", sc.Text())
		}
		if got := Of(n, strings.Split(fields[2], "|")...); got != want {
			t.Errorf("Of(%d, %q) is %d, was %d", n, fields[2], got, want)
		}
		lines++
	}
	if lines < 500 {
		t.Errorf("only %d vectors", lines)
	}
}

func TestOfWithoutPartitionsIsZero(t *testing.T) {
	if Of(0, "a") != 0 || Of(-3, "a") != 0 {
		t.Error("Of of no partitions is not 0")
	}
}

// TestOfAgreesWithTheServer publishes keys of all kinds and compares where the broker's transform put them.
func TestOfAgreesWithTheServer(t *testing.T) {
	b := startBroker(t, "")
	nc := b.connect()
	js := newJetStream(t, nc)
	topics := []Topic{
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
			subjects = append(subjects, fill(topic.Subject, []string{oddToken(i), oddToken(3*i + 1)}[:strings.Count(topic.Subject, "*")]))
		}
		compareWithServer(t, js, topic, subjects)
	}
}

func oddToken(i int) string {
	kinds := []string{"c-%d", "%%C3%%BC%d", "ü%d", "鍵-%d", "a{{partition(3,1)}}%d", "$%d", strings.Repeat("k", 400) + "%d", "a>b*%d", "-%d"}
	return fmt.Sprintf(kinds[i%len(kinds)], i)
}

func compareWithServer(t *testing.T, js jetstream.JetStream, topic Topic, subjects []string) {
	t.Helper()
	for _, s := range subjects {
		if _, err := js.PublishMsgAsync(&nats.Msg{Subject: s, Data: []byte(s)}); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	cons, err := js.OrderedConsumer(testContext(t), topic.Name, jetstream.OrderedConsumerConfig{})
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
