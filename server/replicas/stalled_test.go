package replicas

import (
	"slices"
	"testing"
	"time"

	broker "github.com/nats-io/nats-server/v2/server"
)

func TestAStalledReplicaIsNoticed(t *testing.T) {
	heard := func(lag uint64, ago time.Duration) *broker.PeerInfo {
		return &broker.PeerInfo{Peer: "p", Lag: lag, Active: ago}
	}
	const soon = 100 * time.Millisecond
	for name, c := range map[string]struct {
		checks []*broker.PeerInfo // One after the other, nil for a stream that another node leads.
		want   []int              // The checks at which it is noticed.
	}{
		"stalled": {[]*broker.PeerInfo{heard(3, soon), heard(3, soon), heard(3, soon), heard(4, soon)},
			[]int{2, 3}},
		"falls back": {[]*broker.PeerInfo{heard(3, soon), heard(300, soon), heard(600, soon)}, []int{2}},
		"current":    {[]*broker.PeerInfo{heard(0, soon), heard(0, soon), heard(0, soon), heard(0, soon)}, nil},
		"catches up": {[]*broker.PeerInfo{heard(300, soon), heard(200, soon), heard(100, soon), heard(50, soon)},
			nil},
		"catches up slowly": {[]*broker.PeerInfo{heard(300, soon), heard(300, soon), heard(299, soon), heard(299, soon)},
			nil},
		"current in between": {[]*broker.PeerInfo{heard(3, soon), heard(3, soon), heard(0, soon), heard(3, soon),
			heard(3, soon)}, nil},
		"silent": {[]*broker.PeerInfo{heard(3, time.Second), heard(3, 2*time.Second),
			heard(3, 3*time.Second)}, nil},
		"silent, and back": {[]*broker.PeerInfo{heard(3, 4*time.Second), heard(3, 5*time.Second),
			heard(3, 6*time.Second), heard(3, soon)}, []int{3}},
		"never heard": {[]*broker.PeerInfo{heard(3, 0), heard(3, 0), heard(3, 0), heard(3, 0)}, nil},
		"led by another, and us": {[]*broker.PeerInfo{heard(3, soon), heard(3, soon), nil, heard(3, soon), heard(3, soon)},
			nil},
	} {
		var got []int
		stalled := stalledReplicas{}
		for i, p := range c.checks {
			led := map[string][]*broker.PeerInfo{}
			if p != nil {
				led["orders"] = []*broker.PeerInfo{p}
			}
			if len(stalled.check(led)) > 0 {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: noticed at %v, want %v", name, got, c.want)
		}
	}
}
