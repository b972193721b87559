package server_test

import (
	"slices"
	"testing"
	"time"

	"leasehold/server"
	"leasehold/server/raft"
	"leasehold/server/servertest"
)

// The variables being set proves nothing: after an upgrade of the broker nobody might read them. So listen to what an
// idle leader really sends. Its heartbeats come every 250 ms with lan and every second with the broker's own timers;
// half a second between them is far from both on a slow machine.
func TestTimingTookEffect(t *testing.T) {
	nodes := servertest.Cluster(t, 3)
	want, _ := raft.TimingByName("lan")
	want.Name = ""
	if got := raft.InUse(); got != want {
		t.Errorf("the broker's timers are %+v, want %+v", got, want)
	}
	nc, err := nodes[0].SystemConn()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	beats, err := nc.SubscribeSync("$NRG.AE.>") // append entries of all Raft groups; only the meta group exists
	if err != nil {
		t.Fatal(err)
	}
	var gaps []time.Duration
	last := time.Time{}
	for len(gaps) < 8 {
		if _, err := beats.NextMsg(10 * time.Second); err != nil {
			t.Fatalf("no heartbeat seen: %v", err)
		}
		now := time.Now()
		if !last.IsZero() {
			gaps = append(gaps, now.Sub(last))
		}
		last = now
	}
	slices.Sort(gaps)
	if median := gaps[len(gaps)/2]; median > server.StockHeartbeat/2 {
		t.Errorf("heartbeats come every %s (median of %v), want about %s", median, gaps, want.Heartbeat)
	}
}

func TestTimingsOfOneProcessMustAgreeWhileABrokerRuns(t *testing.T) {
	servertest.Cluster(t, 3)
	options := servertest.ClusterOptions(t, 3)[0]
	wan, err := raft.TimingByName("wan")
	if err != nil {
		t.Fatal(err)
	}
	options.Timing = wan
	if err := runOnce(t, options); err == nil {
		t.Error("a broker with other timers ran beside the first")
	}
}

func TestTimingByNameRefusesOthers(t *testing.T) {
	if _, err := raft.TimingByName("moon"); err == nil {
		t.Error("TimingByName(moon) gave no error")
	}
}
