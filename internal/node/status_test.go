package node

import (
	"testing"

	"leasehold/internal/api"
)

// A lane counts what its node's copy of the topic has. If that copy is behind, it may not say that nothing is left.
func TestLagOfACopyThatIsBehindIsUnknown(t *testing.T) {
	zero, two := int64(0), int64(2)
	cases := map[string]struct {
		lag    *int64
		passed uint64
		epoch  uint64
		want   *int64
	}{
		"it has passed all":           {&zero, 100, 4, &zero},
		"it has passed more":          {&zero, 101, 4, &zero},
		"its copy is behind":          {&zero, 99, 4, nil},
		"it is behind, and says so":   {&two, 99, 4, &two},
		"it does not know what it is": {&zero, 0, 4, &zero},
		"it speaks of another epoch":  {&zero, 99, 3, &zero},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			lag, sum := c.lag, int64(0)
			groups := []api.Group{{Name: "g", Topic: "orders", Lag: &sum, Partitions: []api.Partition{{Partition: 3, Owner: "n1", Epoch: 4, Lag: lag}}}}
			said := map[string]report{"n1": {Lanes: map[string][]laneState{"g": {{Partition: 3, Epoch: c.epoch, Lag: c.lag, Passed: c.passed}}}}}
			doubtLags(groups, []api.Topic{{Name: "orders", LastSeq: 100}}, said)
			got := groups[0].Partitions[0].Lag
			if (got == nil) != (c.want == nil) || (groups[0].Lag == nil) != (c.want == nil) {
				t.Errorf("lag %v of the partition, %v of the group", got, groups[0].Lag)
			}
		})
	}
}
