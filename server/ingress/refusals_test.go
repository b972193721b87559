package ingress

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// However many addresses try, a bounded number of them is kept and a bounded number of lines is logged; users keep
// theirs.
func TestRefusalsAreBoundedInMemoryAndInTheLog(t *testing.T) {
	var log bytes.Buffer
	r := newRefusals(hclog.New(&hclog.LoggerOptions{Output: &log}))
	begun := r.reported
	const addresses = 5 * maxTallies
	for i := range addresses {
		for range 1 + i%2 {
			r.countAddress(fmt.Sprint("address", i), "wrong_credentials", "x")
		}
	}
	r.count("alice", "not_permitted", "x")
	if got := len(r.list()); got != maxTallies+2 {
		t.Errorf("%d kinds are kept, want %d, others and alice", got, maxTallies)
	}
	total, alice := uint64(0), uint64(0)
	for _, refused := range r.list() {
		total += refused.Count
		if refused.User == "alice" {
			alice = refused.Count
		}
	}
	if total != addresses*3/2+1 || alice != 1 {
		t.Errorf("%d are counted, %d of alice", total, alice)
	}
	if got := strings.Count(log.String(), "\n"); got != maxLines {
		t.Errorf("%d lines before the first report, want %d", got, maxLines)
	}
	for i, want := range []int{maxLines + 1, 0} {
		log.Reset()
		r.report(begun.Add(time.Duration(i+1) * reportEvery))
		if got := strings.Count(log.String(), "\n"); got != want {
			t.Errorf("report %d has %d lines, want %d:\n%s", i, got, want, log.String())
		}
	}
	r.count("alice", "not_permitted", "again")
	r.report(begun.Add(2*reportEvery + time.Second))
	if log.Len() > 0 {
		t.Errorf("reported within a minute: %s", log.String())
	}
	r.report(begun.Add(3 * reportEvery))
	if !strings.Contains(log.String(), "user=alice reason=not_permitted count=1 last=again") {
		t.Errorf("the report says %s", log.String())
	}
}
