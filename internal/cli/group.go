package cli

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/cli/screen"
	"leasehold/internal/plural"
)

func (a *App) groupCommand() *cobra.Command {
	return group("group", "List groups, remove unused ones", a.groupListCommand(), a.groupRemoveCommand())
}

func (a *App) groupListCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all groups and the live nodes that serve them",
		Long: "\"idle\" is a group that no live node serves: it holds back its topic's messages until a node serves it " +
			"again or\n" +
			"it is removed. \"done\" is the sequence up to which every partition has finished everything.",
		Example: "  leasehold group list\n  leasehold group list -o json | jq '.groups[] | select(.state == \"idle\")'",
		Args:    cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			client, err := a.client(cmd)
			if err != nil {
				return err
			}
			list, err := client.Groups(cmd.Context())
			if err != nil {
				return err
			}
			return a.printGroupList(list, format)
		}),
	}
	addTable(cmd, &format)
	return cmd
}

func (a *App) printGroupList(l *api.GroupList, format string) error {
	if format == formatJSON {
		return printJSON(a.Out, l)
	}
	rows := make([]table.Row, 0, len(l.Groups))
	for _, g := range l.Groups {
		rows = append(rows, table.Row{
			g.Name, g.Topic, groupCell(g.State), g.Partitions, countCell(g.Unowned, screen.Red), lagCell(g.Lag), g.Done, g.Start,
			lettersText(g), strings.Join(g.Nodes, ", "),
		})
	}
	return printTable(a.Out, table.Row{
		"group", "topic", "state", "partitions", "unowned", "lag", screen.Wide("done"), screen.Wide("start"), "dead letters",
		"nodes",
	}, rows)
}

// lettersText is how many dead letters a group has, and how much they may take.
func lettersText(g api.GroupInfo) string {
	switch {
	case g.DeadLetters < 0 && g.State == "removed":
		return ""
	case g.DeadLetters < 0:
		return "unknown"
	}
	return fmt.Sprintf("%s of %s", humanize.Comma(g.DeadLetters), humanize.IBytes(uint64(g.DLQMaxBytes)))
}

func (a *App) groupRemoveCommand() *cobra.Command {
	var f removeFlags
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a group that no node serves",
		Long: "Take the group out of every config and restart the nodes first: while a live node serves it, this is " +
			"refused with\n" +
			"exit code 11. From then on the group holds back no messages, so what it had not finished may be purged; its " +
			"dead\n" +
			"letters are deleted (`leasehold dlq export` saves them). Its name cannot be reused: a node whose config has it\n" +
			"refuses to start. To start over, give the group a new name. Repeat the command to finish an interrupted removal.",
		Example:           "  leasehold group remove audit --dry-run\n  leasehold group remove audit --yes",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeGroup,
		RunE: action(func(cmd *cobra.Command, args []string) error {
			return a.runGroupRemove(cmd, args[0], f)
		}),
	}
	addRemoveFlags(cmd, &f)
	return cmd
}

func (a *App) runGroupRemove(cmd *cobra.Command, name string, f removeFlags) error {
	client, err := a.client(cmd)
	if err != nil {
		return err
	}
	const hint = "`leasehold group list` shows every group and who serves it"
	plan, err := client.RemoveGroup(cmd.Context(), name, true)
	if err != nil {
		return refused(err, hint)
	}
	if f.format != formatJSON {
		fmt.Fprintf(a.Out, "group %s of topic %s has finished everything up to sequence %d; up to %s after it may be lost "+
			"to it\n",
			name, plan.Topic, plan.Done, count(int(plan.Unread), "message"))
		if plan.DeadLetters > 0 {
			// The next line tells whether writing works.
			_ = screen.Of(a.Out).Tell(fmt.Sprintf("its %s %s deleted; `leasehold dlq list %s` shows them",
				count(int(plan.DeadLetters), "dead letter"), plural.Verb(plan.DeadLetters, "is", "are"), name))
		}
	}
	if f.dryRun {
		return a.jsonOnly(f.format, plan)
	}
	if err := a.confirm(cmd, f, fmt.Sprintf("Remove group %s permanently?", name)); err != nil {
		return err
	}
	done, err := client.RemoveGroup(cmd.Context(), name, false)
	if err != nil {
		return refused(err, hint)
	}
	if f.format != formatJSON {
		fmt.Fprintf(a.Out, "removed; topic %s is not held back by it any more, and %s of max_store are free again\n",
			done.Topic, humanize.IBytes(uint64(done.Freed)))
	}
	return a.jsonOnly(f.format, done)
}
