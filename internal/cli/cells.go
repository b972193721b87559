package cli

import (
	"leasehold/internal/api"
	"leasehold/internal/cli/screen"
	"leasehold/worker/lane"
)

// nodeWord is a node's state, as the API spells it, in the words of the CLI.
func nodeWord(state string) string {
	switch state {
	case api.NodeDead:
		return "dead"
	case "ended":
		return "stopped"
	}
	return state
}

// nodeCell is a node's state in a table.
func nodeCell(state string) screen.Cell {
	switch state {
	case api.NodeLive:
		return screen.Paint(screen.Green, state)
	case "joining", "former", "removed":
		return screen.Paint(screen.Yellow, state)
	}
	return screen.Paint(screen.Red, nodeWord(state))
}

// wantedCell is a yes or a no; a no needs attention.
func wantedCell(yes bool) screen.Cell {
	if yes {
		return screen.Paint(screen.Plain, "yes")
	}
	return screen.Paint(screen.Red, "no")
}

// countCell is a number that is 0 where nothing is wrong, and negative where it is not known.
func countCell[N int | int64](n N, c screen.Colour) screen.Cell {
	if n < 0 {
		return screen.Paint(screen.Plain, screen.Number("unknown"))
	}
	if n == 0 {
		c = screen.Plain
	}
	return screen.Paint(c, int64(n))
}

// laneCell is a partition's state in a table.
func laneCell(p api.Partition) screen.Cell {
	switch p.State {
	case lane.StateHeld:
		return screen.Paint(screen.Green, p.State)
	case "blocked", "unowned", "gap", "overdue", "stopped":
		return screen.Paint(screen.Red, p.State)
	}
	return screen.Paint(screen.Yellow, p.State)
}

// groupCell is a group's state in a table.
func groupCell(state string) screen.Cell {
	if state == "served" {
		return screen.Paint(screen.Green, state)
	}
	return screen.Paint(screen.Yellow, state)
}
