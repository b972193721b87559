package cli

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/cli/screen"
)

func (a *App) topicCommand() *cobra.Command {
	return group("topic", "List topics, and remove one that no node has any more", a.topicListCommand(),
		a.topicRemoveCommand())
}

func (a *App) topicListCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all topics: size, replicas, groups",
		Long: "\"unused\" is a topic that is in no live node's config: it keeps its share of max_store until a node has it " +
			"again or\n" +
			"it is removed.",
		Example: "  leasehold topic list\n  leasehold topic list -o json | jq '.topics[] | {name, last_seq}'",
		Args:    cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			client, err := a.client(cmd)
			if err != nil {
				return err
			}
			list, err := client.Topics(cmd.Context())
			if err != nil {
				return err
			}
			return a.printTopicList(list, format)
		}),
	}
	addTable(cmd, &format)
	return cmd
}

func (a *App) printTopicList(l *api.TopicList, format string) error {
	if format == formatJSON {
		return printJSON(a.Out, l)
	}
	rows := make([]table.Row, 0, len(l.Topics))
	for _, t := range l.Topics {
		size := humanize.IBytes(t.Bytes)
		if t.MaxBytes > 0 {
			size += " of " + humanize.IBytes(uint64(t.MaxBytes))
		}
		if t.WantedBytes > 0 {
			size += " (wants " + humanize.IBytes(uint64(t.WantedBytes)) + ")"
		}
		rows = append(rows, table.Row{t.Name, t.State, t.Partitions, t.Subject,
			screen.Number(humanize.Comma(int64(t.Messages))), size, t.FirstSeq, t.LastSeq, strings.Join(t.Replicas, ", "),
			strings.Join(t.Groups, ", "), t.Error})
	}
	err := printTable(a.Out, table.Row{
		"topic", "state", "partitions", screen.Wide("subject"), "messages", "size", screen.Wide("first seq"), "last seq",
		screen.Wide("replicas"), "groups", screen.Whole("error"),
	}, rows)
	if err == nil && l.Reserved > 0 {
		fmt.Fprintf(a.Out, "\n%s of max_store %s are reserved, %s are free\n", humanize.IBytes(uint64(l.Reserved)),
			humanize.IBytes(uint64(l.MaxStore)), humanize.IBytes(uint64(max(l.MaxStore-l.Reserved, 0))))
	}
	return err
}

func (a *App) topicRemoveCommand() *cobra.Command {
	var f removeFlags
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a topic that no node has any more, with all its messages",
		Long: "First take the topic and its groups out of every config, restart the nodes, and remove the groups: while a " +
			"node (also\n" +
			"one that is down) has the topic, or it has a group left, this is refused with exit code 11. Its messages are " +
			"deleted,\n" +
			"and its share of max_store is free again. Its name cannot be reused: a node whose config has it refuses to " +
			"start.\n" +
			"Repeat the command to finish an interrupted removal.",
		Example:           "  leasehold topic remove events --dry-run\n  leasehold topic remove events --yes",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeUnusedTopic,
		RunE: action(func(cmd *cobra.Command, args []string) error {
			return a.runTopicRemove(cmd, args[0], f)
		}),
	}
	addRemoveFlags(cmd, &f)
	return cmd
}

func (a *App) runTopicRemove(cmd *cobra.Command, name string, f removeFlags) error {
	client, err := a.client(cmd)
	if err != nil {
		return err
	}
	const hint = "`leasehold topic list` shows every topic and its groups, `leasehold group list` who serves them"
	plan, err := client.RemoveTopic(cmd.Context(), name, true)
	if err != nil {
		return refused(err, hint)
	}
	switch {
	case f.format == formatJSON:
	case plan.Freed == 0:
		fmt.Fprintf(a.Out, "nothing of topic %s is stored any more\n", name)
	default:
		fmt.Fprintf(a.Out, "topic %s has %s (%s), which are deleted; it reserves %s of max_store\n",
			name, count(int(plan.Messages), "message"), humanize.IBytes(plan.Bytes), humanize.IBytes(uint64(plan.Freed)))
	}
	if f.dryRun {
		return a.jsonOnly(f.format, plan)
	}
	if err := a.confirm(cmd, f, fmt.Sprintf("Remove topic %s and delete its messages?", name)); err != nil {
		return err
	}
	done, err := client.RemoveTopic(cmd.Context(), name, false)
	if err != nil {
		return refused(err, hint)
	}
	if f.format != formatJSON {
		fmt.Fprintf(a.Out, "removed; %s of max_store are free again\n", humanize.IBytes(uint64(done.Freed)))
	}
	return a.jsonOnly(f.format, done)
}
