package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/cli/screen"
)

func (a *App) nodeCommand() *cobra.Command {
	return group("node", "List nodes, remove dead ones", a.nodeListCommand(), a.nodeRemoveCommand())
}

func (a *App) nodeListCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List nodes and voters, and what to do about those that are down",
		Long: "One line per identity: a node that comes back with an empty disk has a new identity, and both are listed " +
			"until the\n" +
			"former one is removed. \"voter\" counts for the quorum; \"current\" is alive and has everything.",
		Example: "  leasehold node list\n  leasehold node list -o json | jq '.nodes[] | select(.note != \"\")'",
		Args:    cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			client, err := a.client(cmd)
			if err != nil {
				return err
			}
			list, err := client.Nodes(cmd.Context())
			if err != nil {
				return err
			}
			return a.printNodeList(list, format)
		}),
	}
	addTable(cmd, &format)
	return cmd
}

func (a *App) printNodeList(l *api.NodeList, format string) error {
	if err := a.writeNodeList(l, format); err != nil || l.NoQuorum == "" {
		return err
	}
	return noQuorum(errors.New(l.NoQuorum))
}

func (a *App) writeNodeList(l *api.NodeList, format string) error {
	if format == formatJSON {
		return printJSON(a.Out, l)
	}
	rows := make([]table.Row, 0, len(l.Nodes))
	var notes []string
	for _, n := range l.Nodes {
		voter, current := yesNo(n.Peer), yesNo(n.Current)
		switch {
		case l.NoQuorum != "":
			voter, current = "unknown", "unknown"
		case n.Leader:
			voter = "leader"
		}
		rows = append(rows, table.Row{n.Name, nodeCell(n.State), wantedCell(n.Ready), voter, current, n.Partitions, n.Boot,
			n.Server, n.Version, n.Address, n.ServerID})
		if n.Note != "" {
			notes = append(notes, strings.TrimSpace(n.Name+" "+n.Server)+": "+n.Note)
		}
	}
	err := printTable(a.Out, table.Row{
		"node", "state", "ready", "voter", "current", "partitions", screen.Wide("boot"), "server", screen.Wide("version"),
		"address", screen.Wide("server id"),
	}, rows)
	if l.Voters.Count > 0 {
		fmt.Fprintf(a.Out, "\n%s\n", votersText(l.Voters))
	}
	for _, w := range append(l.Warnings, notes...) {
		err = errors.Join(err, screen.Of(a.Out).Say(screen.Yellow, "warning:", w))
	}
	return err
}

func votersText(v api.Voters) string {
	return fmt.Sprintf("%s, %d alive, %d needed", count(v.Count, "voter"), v.Alive, v.Quorum)
}

func (a *App) nodeRemoveCommand() *cobra.Command {
	var f removeFlags
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a dead node from the cluster permanently",
		Long: "For a node that does not come back, before its replacement starts. It stops counting for the quorum, its " +
			"replicas\n" +
			"move to another node, and its data directory cannot join again. Refused, with exit code 11, while the node is\n" +
			"alive or any other voter lags or is down. If the node came back with an empty disk, only its former identity is " +
			"removed.",
		Example: "  leasehold node remove n2 --dry-run\n  leasehold node remove n2 --yes",
		Args:    cobra.ExactArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			return a.runNodeRemove(cmd, args[0], f)
		}),
	}
	addRemoveFlags(cmd, &f)
	return cmd
}

func (a *App) runNodeRemove(cmd *cobra.Command, name string, f removeFlags) error {
	client, err := a.client(cmd)
	if err != nil {
		return err
	}
	plan, err := client.RemoveNode(cmd.Context(), name, true)
	if err != nil {
		return refused(err, "`leasehold node list` shows who is down and who votes")
	}
	if f.format != formatJSON {
		a.printNodeRemoval(plan, "would remove")
	}
	if f.dryRun {
		return a.jsonOnly(f.format, plan)
	}
	if err := a.confirm(cmd, f, fmt.Sprintf("Remove node %s permanently?", name)); err != nil {
		return err
	}
	done, err := client.RemoveNode(cmd.Context(), name, false)
	if err != nil {
		return refused(err, "`leasehold node list` shows how far it came; run the same command again to continue")
	}
	if f.format != formatJSON {
		fmt.Fprintf(a.Out, "removed; now %s\n", votersText(done.After))
	}
	return a.jsonOnly(f.format, done)
}

func (a *App) printNodeRemoval(r *api.NodeRemoval, verb string) {
	if len(r.Removed) > 0 {
		fmt.Fprintf(a.Out, "%s from the voters: %s\n", verb, strings.Join(r.Removed, ", "))
	} else {
		fmt.Fprintf(a.Out, "%s is not a voter\n", r.Name)
	}
	fmt.Fprintf(a.Out, "before: %s\nafter:  %s\n", votersText(r.Before), votersText(r.After))
	for _, w := range r.Warnings {
		_ = screen.Of(a.Out).Say(screen.Yellow, "warning:", w)
	}
}
