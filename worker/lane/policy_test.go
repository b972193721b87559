package lane

import (
	"strings"
	"testing"
	"time"

	"leasehold/worker/handler"
)

func TestFollowsSaysWhatALaneDoes(t *testing.T) {
	dead := Policy{Group: "billing"}.WithDefaults()
	block, park := dead, dead
	block.OnExhausted, park.OnExhausted = ExhaustedBlock, ExhaustedPark
	for _, c := range []struct {
		policy  Policy
		result  handler.Result
		attempt int
		want    string
	}{
		{dead, handler.Result{Status: handler.OK}, 1, "next one follows"},
		{dead, handler.Result{Status: handler.Retry}, 1, "after about 500ms, as attempt 2 of 8"},
		{dead, handler.Result{Status: handler.Timeout}, 3, "after about 2s, as attempt 4 of 8"},
		{dead, handler.Result{Status: handler.Retry, After: 5 * time.Second}, 1, "after 5s"},
		{dead, handler.Result{Status: handler.Retry}, 8, "dead letter"},
		{block, handler.Result{Status: handler.Retry}, 8, "stops"},
		{park, handler.Result{Status: handler.Retry}, 8, "parked"},
		{dead, handler.Result{Status: handler.Reject}, 1, "dead letter"},
		{park, handler.Result{Status: handler.Reject}, 1, "dead letter"},
		{block, handler.Result{Status: handler.Reject}, 1, "stops"},
		{dead, handler.Result{Status: handler.Unavailable}, 8, "no attempt is counted"},
		{dead, handler.Result{Status: handler.Pause}, 1, "until an operator resumes"},
	} {
		if got := c.policy.Follows(c.result, c.attempt); !strings.Contains(got, c.want) {
			t.Errorf("%s at attempt %d with %s: %q, want %q", c.result.Status, c.attempt, c.policy.OnExhausted, got, c.want)
		}
	}
}
