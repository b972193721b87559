package deathwatch

import (
	"net"
	"testing"
	"time"
)

// TestOnlyARefusalIsOne: a port that takes connections, also one that nobody answers on, and one that does not answer
// say nothing of a death.
func TestOnlyARefusalIsOne(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if refused(t.Context(), address) {
		t.Error("a port that listens counts as refused")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if !refused(t.Context(), address) {
		t.Error("a port that nobody listens on does not count as refused")
	}
	for _, address := range []string{"", "127.0.0.1", "no.such.host.invalid:6222", "127.0.0.1:99999"} {
		if refused(t.Context(), address) {
			t.Errorf("%q counts as refused", address)
		}
	}
}

// TestAProcessTakesTimeToDie: its port may outlive its routes, but not for long.
func TestAProcessTakesTimeToDie(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address, ended := l.Addr().String(), time.Now()
	if refusesTwice(t.Context(), address, ended.Add(-dyingLimit), ended) {
		t.Error("a port that goes on listening counts as refused")
	}
	time.AfterFunc(dyingLimit/4, func() { _ = l.Close() })
	if !refusesTwice(t.Context(), address, ended, ended) {
		t.Error("a port that listens for a moment longer than its process's routes last does not count as refused")
	}
	if took := time.Since(ended); took < dyingLimit/4+2*refusalGap {
		t.Errorf("refused twice, with a gap between and after, within %s", took)
	}
}

// TestADeathIsForgotten: what this node tells others is about one process only, and not for ever.
func TestADeathIsForgotten(t *testing.T) {
	var d deaths
	x := death{Node: "n2", ServerID: "A"}
	d.set(x, true)
	if !d.has(x) || d.has(death{Node: "n2", ServerID: "B"}) || d.has(death{Node: "n2"}) {
		t.Error("another process's death is told of")
	}
	d.set(x, false)
	if d.has(x) {
		t.Error("a death is not forgotten")
	}
}
