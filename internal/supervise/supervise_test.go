package supervise

import (
	"strings"
	"testing"
)

// What a node waits for is shown by /readyz, status and the service manager's status line.
func TestWhatANodeWaitsForHasNoWordsOfTheLibrary(t *testing.T) {
	var w Waiting
	w.For("topic orders: ensure stream: nats: API error: code=503 err_code=10008 description=JetStream system "+
		"temporarily unavailable",
		"the bucket with sessions and leases: context deadline exceeded",
		"dead letters of group billing: nats: no responders available for request")
	want := "topic orders: ensure stream: no leader answers; the bucket with sessions and leases: no answer in time; " +
		"dead letters of group billing: no leader answers"
	if got := strings.Join(w.Reasons(), "; "); got != want {
		t.Errorf("waits for %q", got)
	}
}
