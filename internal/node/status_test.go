package node

import (
	"strings"
	"testing"

	"leasehold/cluster/lease"
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
			const epoch = 4
			lanes := []laneState{{Partition: 3, Epoch: c.epoch, Lag: c.lag, Passed: c.passed}}
			if c.epoch != epoch { // The lane of this epoch is there, too.
				lanes = append(lanes, laneState{Partition: 3, Epoch: epoch, Lag: c.lag, Passed: 100})
			}
			part := partitionStatus(3, lease.Lease{Owner: "n1", Epoch: epoch}, lanes, 100)
			group := lagOf([]api.Partition{{Lag: &zero}, part})
			if (part.Lag == nil) != (c.want == nil) || (group == nil) != (c.want == nil) {
				t.Errorf("lag %v of the partition, %v of the group", part.Lag, group)
			}
			if c.want != nil && part.Lag != nil && (*part.Lag != *c.want || *group != *c.want) {
				t.Errorf("lag %d of the partition, %d of the group", *part.Lag, *group)
			}
		})
	}
}

func TestWarningsOfDeadLettersCountThemAndNameTheCommand(t *testing.T) {
	for want, g := range map[string]api.Group{
		"group g: 1 dead letter waits for an operator: `leasehold dlq list g`":                                                 {Name: "g", DeadLetters: 1},
		"group g: 1,200 dead letters wait for an operator: `leasehold dlq list g`":                                             {Name: "g", DeadLetters: 1200},
		"group g: 1 parked key waits for `leasehold dlq release g --all`; list them with `leasehold dlq list g --kind parked`": {Name: "g", DeadLetters: 3, Partitions: []api.Partition{{Parked: 1}}},
		"group g: 3 parked keys wait for `leasehold dlq release g --all`; list them with `leasehold dlq list g --kind parked`": {Name: "g", DeadLetters: 3, Partitions: []api.Partition{{Parked: 1}, {Parked: 2}}},
		"": {Name: "g"},
	} {
		if got := strings.Join(letterWarnings([]api.Group{g}), "\n"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
