package partitioner

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestValidateNamesEveryFaultByItsKey(t *testing.T) {
	err := Topic{Name: "a.b", Partitions: 5000, Subject: "x.>", Key: []int{2}, MaxBytes: -1, Retain: -1,
		DedupWindow: time.Second}.Validate()
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, key := range []string{"name", "partitions", "subject", "key", "max_bytes", "retain", "dedup_window"} {
		if !strings.Contains(err.Error(), "topic.a.b."+key+":") {
			t.Errorf("no fault of %s in:\n%v", key, err)
		}
	}
}

func TestTopicNames(t *testing.T) {
	for _, good := range []string{"orders", "o", "Plant-7_b", "7", strings.Repeat("n", 64), "dlqueue"} {
		if err := (Topic{Name: good, Partitions: 1}.WithDefaults().Validate()); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "a b", "a.b", "ü", "_INBOX", "$JS", "-a", "dlq", "dlq_billing", "KV_x",
		"kv_leasehold", "OBJ_x", "leasehold", "Leasehold", "leasehold_x", "a/b", "a*", ">", strings.Repeat("n", 65)} {
		if err := (Topic{Name: bad, Partitions: 1}.WithDefaults().Validate()); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestSubjectPatterns(t *testing.T) {
	for subject, good := range map[string]bool{
		"orders.*": true, "plant.*.sensor.*": true, "orders.eu.*": true, "a.*.*": true, "1.*": true, "orders.*.x": true,
		"orders": false, "orders.>": false, "*.orders": false, "orders..*": false, ".*": false, "orders.*.": false,
		"orders.a*": false,
		"$JS.*":     false, "_INBOX.*": false, "dlq.*": false, "leasehold.*": false, "KV_leasehold.*": false, "a b.*": false,
		// What the topic's messages are stored under is not open for publishing.
		"orders.1.*.*": false, "orders.*.*": true, "orders.*.*.*": false, "orders.1.7.*": false, "orders.2.*": true,
		"orders.*.eu.*": true, "orders.*.*.eu.*": false, "orders.*.2.*.*": false,
		"a.*.*.*.*.*.*.*.*.*": false,
	} {
		err := Topic{Name: "orders", Partitions: 4, Subject: subject}.WithDefaults().Validate()
		if good != (err == nil) {
			t.Errorf("%q: %v", subject, err)
		}
	}
}

func TestKeyIndexes(t *testing.T) {
	for _, c := range []struct {
		key  []int
		good bool
	}{{[]int{1}, true}, {[]int{2, 1}, true}, {[]int{3}, false}, {[]int{0}, false}, {[]int{1, 1}, false}} {
		err := Topic{Name: "t", Partitions: 4, Subject: "plant.*.x.*", Key: c.key}.WithDefaults().Validate()
		if c.good != (err == nil) {
			t.Errorf("%v: %v", c.key, err)
		}
	}
}

func TestCheckOverlapFindsTopicsInEachOthersWay(t *testing.T) {
	a := Topic{Name: "a", Partitions: 1}.WithDefaults()
	for _, c := range []struct {
		b    Topic
		good bool
	}{
		{Topic{Name: "b"}, true},
		{Topic{Name: "a"}, false},
		{Topic{Name: "b", Subject: "a.*"}, false},
		{Topic{Name: "b", Subject: "a.x.*"}, true},
		{Topic{Name: "b", Subject: "a.*.*"}, true},
		{Topic{Name: "b", Subject: "a.*.*.*"}, false},
		{Topic{Name: "b", Subject: "a.1.*.*"}, false},
		{Topic{Name: "b", Subject: "a.2.3.*"}, false},
		{Topic{Name: "b", Subject: "a.*.x.*"}, true},
	} {
		for _, topics := range [][]Topic{{a, c.b.WithDefaults()}, {c.b.WithDefaults(), a}} {
			if err := CheckOverlap(topics); c.good != (err == nil) {
				t.Errorf("%+v: %v", c.b, err)
			}
		}
	}
}

func TestPublishSubjectNeedsTheWholeSubject(t *testing.T) {
	plant := Topic{Name: "p", Partitions: 8, Subject: "plant.*.sensor.*", Key: []int{2, 1}}
	if s, err := plant.PublishSubject("s", "p"); err != nil || s != "plant.p.sensor.s" {
		t.Errorf("two keys: %q, %v", s, err)
	}
	if _, err := plant.PublishSubject("s"); err == nil || !strings.Contains(err.Error(), "full subject") {
		t.Errorf("one of two keys: %v", err)
	}
	plant.Key = []int{1}
	if _, err := plant.PublishSubject("p"); err == nil || !strings.Contains(err.Error(), "full subject") {
		t.Errorf("a wildcard outside the key: %v", err)
	}
	if _, err := orders().PublishSubject(""); !errors.Is(err, ErrNoKey) {
		t.Errorf("empty token: %v", err)
	}
	if _, err := orders().PublishSubject("*"); err == nil {
		t.Error("a wildcard is taken for a key")
	}
}

func TestPlacementAndParseAgree(t *testing.T) {
	plant := Topic{Name: "plants", Partitions: 8, Subject: "plant.*.sensor.*", Key: []int{2, 1}}
	place, err := plant.Placement("plant.p1.sensor.s9")
	want := Place{Partition: Of(8, "s9", "p1"), Key: "s9.p1", Subject: "plant.p1.sensor.s9"}
	if err != nil || place != want {
		t.Fatalf("got %+v, %v; want %+v", place, err, want)
	}
	stored := strings.TrimSuffix(plant.PartitionFilter(place.Partition), ">") + "p1.s9"
	if got, err := plant.Parse(stored); err != nil || got != want {
		t.Errorf("parsed %q as %+v, %v", stored, got, err)
	}
}

func TestKeyFilterMatchesItsKeyAndNoOther(t *testing.T) {
	plant := Topic{Name: "plants", Partitions: 8, Subject: "plant.*.sensor.*.*", Key: []int{3, 1}}
	for _, c := range []struct {
		topic     Topic
		key, want string
	}{
		{orders(), "a%20b", fmt.Sprintf("orders.1.%d.a%%20b", Of(orders().Partitions, "a%20b"))},
		{orders(), "50%", fmt.Sprintf("orders.1.%d.50%%", Of(orders().Partitions, "50%"))},
		{plant, "x.p1", fmt.Sprintf("plants.1.%d.p1.*.x", Of(8, "x", "p1"))},
	} {
		if got := c.topic.KeyFilter(c.key); got != c.want {
			t.Errorf("%s: got %q, want %q", c.key, got, c.want)
		}
	}
}

func TestStrangeSubjectsAreRefused(t *testing.T) {
	for _, s := range []string{"", "orders", "order.x", "orders.x.y", "orders.*", "orders.>", "orders.a b", "orders.a\n"} {
		if _, err := orders().Placement(s); !errors.Is(err, ErrSubject) && !errors.Is(err, ErrNoKey) {
			t.Errorf("placement of %q: %v", s, err)
		}
	}
	if _, err := orders().Placement("orders."); !errors.Is(err, ErrNoKey) {
		t.Errorf("empty key: %v", err)
	}
	for _, s := range []string{"", "orders.1.3", "orders.2.3.a", "orders.1.12.a", "orders.1.-1.a", "orders.1.x.a",
		"orders.1.3.a.b", "orders.a", "x.1.3.a"} {
		if _, err := orders().Parse(s); !errors.Is(err, ErrSubject) {
			t.Errorf("parse of %q: %v", s, err)
		}
	}
}
