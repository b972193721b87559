package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"leasehold/internal/api"
)

// nextSteps is what an operator can do about each state that needs somebody. What warnings say already is left out.
func nextSteps(s *api.Status) []string {
	var steps []string
	for _, n := range s.Nodes {
		steps = append(steps, nodeSteps(s, n)...)
	}
	for _, g := range s.Groups {
		steps = append(steps, groupSteps(g)...)
	}
	return steps
}

func nodeSteps(s *api.Status, n api.Node) []string {
	var steps []string
	switch {
	case n.State != api.NodeLive && !strings.Contains(strings.Join(s.Warnings, "\n"), "`leasehold node remove "+n.Name+
		"`"):
		steps = append(steps, fmt.Sprintf("start node %s; if it does not come back: `leasehold node remove %s`", n.Name,
			n.Name))
	case n.State == api.NodeLive && !n.Ready && n.Name != s.Node:
		steps = append(steps, fmt.Sprintf("ask node %s what it waits for: `leasehold status` there", n.Name))
	}
	if n.DiskShort {
		steps = append(steps, fmt.Sprintf("free disk space on %s; publishing then resumes (`leasehold topic list` shows "+
			"what is stored)", n.Name))
	}
	return steps
}

// groupSteps has a step for each state of the group's partitions.
func groupSteps(g api.Group) []string {
	byState := map[string][]api.Partition{}
	for _, p := range g.Partitions {
		if state := troubleOf(p); state != "" {
			byState[state] = append(byState[state], p)
		}
	}
	if g.Unowned > 0 {
		byState["unowned"] = nil
	}
	var steps []string
	for _, state := range troubles {
		if ps, ok := byState[state]; ok {
			if step := partitionStep(g, state, ps); step != "" {
				steps = append(steps, step)
			}
		}
	}
	return steps
}

// troubles are the states of partitions that do not make progress, the most urgent first. "in trouble" stands for every
// other state that comes with an error.
var troubles = []string{"unowned", "blocked", "gap", "overdue", "paused", "unavailable", "retrying", "in trouble"}

// troubleOf is a partition's trouble, empty if it has none.
func troubleOf(p api.Partition) string {
	switch {
	case p.Paused != "" || p.State == "paused":
		return "paused"
	case p.Error == "":
		return ""
	case slices.Contains(troubles, p.State):
		return p.State
	}
	return "in trouble"
}

// partitionStep is what to do about some partitions of a group; empty if their error says it.
func partitionStep(g api.Group, state string, ps []api.Partition) string {
	resume := resumeText(g, ps)
	switch state {
	case "unowned":
		return fmt.Sprintf("start a node that serves group %s: `leasehold group list` shows which do", g.Name)
	case "blocked":
		if len(ps) == 1 && strings.Contains(ps[0].Error, resumeText(g, ps)) {
			return ""
		}
		return "fix what the error says, then " + resume
	case "paused":
		return "when the reason for the pause is gone: " + resume
	case "overdue":
		return fmt.Sprintf("look at the handler on %s: its call did not return", owners(api.Group{Partitions: ps}))
	case "unavailable", "retrying":
		return fmt.Sprintf("fix the handler of group %s; it is retried automatically%s, or at once with %s", g.Name,
			retryText(ps[0]), resume)
	}
	return ""
}

// resumeText is the command that has partitions handled again.
func resumeText(g api.Group, ps []api.Partition) string {
	return fmt.Sprintf("`leasehold resume %s%s`", g.Name, partitionFlag(g, ps))
}

func retryText(p api.Partition) string {
	if p.RetryAt == "" {
		return ""
	}
	return " at " + clockTime(p.RetryAt)
}

// partitionFlag names partitions for a command, nothing if they are all of the group's.
func partitionFlag(g api.Group, ps []api.Partition) string {
	if len(ps) == len(g.Partitions) && len(ps) > 1 {
		return ""
	}
	var ranges []string
	for i := 0; i < len(ps); {
		last := i
		for last+1 < len(ps) && ps[last+1].Partition == ps[last].Partition+1 {
			last++
		}
		text := strconv.Itoa(ps[i].Partition)
		if last > i {
			text += "-" + strconv.Itoa(ps[last].Partition)
		}
		ranges, i = append(ranges, text), last+1
	}
	return " --partition " + strings.Join(ranges, ",")
}
