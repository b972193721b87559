package matrix

import "leasehold/internal/harness/history"

// slack is how many times a bound must be passed to fail a row: these machines are shared.
const slack = 5

// rules are what the history of a run with so many faults must show.
func (r Row) rules(faults int) history.Rules {
	rules := history.Rules{
		Groups: []string{Group}, Repeats: history.RepeatsAfterAnyKill,
		MinAcked: 100, MinKeys: r.Load.Keys / 4, MinKills: min(faults, 1),
		MaxStall: slack * r.Stall, MaxPublishGap: slack * r.Gap,
	}
	if r.Rules != nil {
		r.Rules(&rules)
	}
	return rules
}

// nothingRepeats is for moves in order: a clean stop, a restart.
func nothingRepeats(r *history.Rules) { r.Repeats = history.RepeatsNever }

// nothingMoves is for faults that are none for the nodes.
func nothingMoves(r *history.Rules) { r.Repeats, r.MinKills = history.RepeatsNever, 0 }

// lateTails is for nodes that are paused: each may end one call late.
func lateTails(r *history.Rules) { r.AllowStaleTail = true }
