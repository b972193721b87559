package cli

import (
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/cli/screen"
)

func (a *App) topicCommand() *cobra.Command {
	return group("topic", "List topics", a.topicListCommand())
}

func (a *App) topicListCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List all topics: size, replicas, groups",
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
		rows = append(rows, table.Row{t.Name, t.Partitions, t.Subject, humanize.Comma(int64(t.Messages)), size, t.FirstSeq, t.LastSeq,
			strings.Join(t.Replicas, ", "), strings.Join(t.Groups, ", "), t.Error})
	}
	return printTable(a.Out, table.Row{
		"topic", "partitions", screen.Wide("subject"), "messages", "size", screen.Wide("first seq"), "last seq", screen.Wide("replicas"), "groups", screen.Whole("error"),
	}, rows)
}
