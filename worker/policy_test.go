package worker

import (
	"strings"
	"testing"
	"time"
)

func TestFollowsSaysWhatALaneDoes(t *testing.T) {
	dead := Policy{Group: "billing"}.WithDefaults()
	block, park := dead, dead
	block.OnExhausted, park.OnExhausted = ExhaustedBlock, ExhaustedPark
	for _, c := range []struct {
		policy  Policy
		result  Result
		attempt int
		want    string
	}{
		{dead, Result{Status: OK}, 1, "next one follows"},
		{dead, Result{Status: Retry}, 1, "after about 500ms, as attempt 2 of 8"},
		{dead, Result{Status: Timeout}, 3, "after about 2s, as attempt 4 of 8"},
		{dead, Result{Status: Retry, After: 5 * time.Second}, 1, "after 5s"},
		{dead, Result{Status: Retry}, 8, "dead letter"},
		{block, Result{Status: Retry}, 8, "stops"},
		{park, Result{Status: Retry}, 8, "parked"},
		{dead, Result{Status: Reject}, 1, "dead letter"},
		{park, Result{Status: Reject}, 1, "dead letter"},
		{block, Result{Status: Reject}, 1, "stops"},
		{dead, Result{Status: Unavailable}, 8, "no attempt is counted"},
		{dead, Result{Status: Pause}, 1, "until a person resumes"},
	} {
		if got := c.policy.Follows(c.result, c.attempt); !strings.Contains(got, c.want) {
			t.Errorf("%s at attempt %d with %s: %q, want %q", c.result.Status, c.attempt, c.policy.OnExhausted, got, c.want)
		}
	}
}
