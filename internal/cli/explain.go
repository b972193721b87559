package cli

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/cli/screen"
	"leasehold/internal/printable"
	"leasehold/partitioner"
)

func (a *App) explainCommand() *cobra.Command {
	var format string
	var isKey bool
	cmd := &cobra.Command{
		Use:   "explain TOPIC KEY|ID",
		Short: "Show where a key or message is and what is blocking it",
		Long: "For a key: its partition, and per group who owns that, how far it is, and what holds it up. For a message, " +
			"by its id\n" +
			"(topic/partition/sequence) or its sequence alone, also what each group has made of it: waiting and behind how " +
			"many\n" +
			"others, being handled, done, or a dead letter. A number is taken for a sequence; --key says that it is a key.",
		Example: "  leasehold explain orders c-17\n  leasehold explain orders orders/3/1007\n  leasehold explain orders " +
			"1007 -o json\n  leasehold explain orders 1007 --key",
		Args: cobra.ExactArgs(2),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			client, err := a.client(cmd)
			if err != nil {
				return err
			}
			x, err := client.Explain(cmd.Context(), args[0], api.ExplainTarget{Of: args[1], IsKey: isKey})
			if err != nil {
				return err
			}
			localTimes(x.Groups)
			return a.printExplanation(x, format)
		}),
	}
	addTable(cmd, &format)
	cmd.Flags().BoolVar(&isKey, "key", false, "treat the argument as a key, whatever it looks like")
	return cmd
}

// localTimes spells the times in notes as this machine's clock shows them.
func localTimes(groups []api.ExplainedGroup) {
	for i, g := range groups {
		if g.RetryAt != "" {
			groups[i].Note = strings.ReplaceAll(g.Note, g.RetryAt, clockTime(g.RetryAt))
		}
	}
}

func (a *App) printExplanation(e *api.Explanation, format string) error {
	if format == formatJSON {
		return printJSON(a.Out, e)
	}
	switch {
	case e.NotStored != "":
		fmt.Fprintln(a.Out, e.NotStored)
	case e.Message != nil:
		m := e.Message
		_ = screen.Of(a.Out).Fit(fmt.Sprintf("message %s of key %s, stored %s, %s: %s", m.ID, partitioner.KeyName(e.Key),
			storedText(m.Time), humanize.IBytes(uint64(len(m.Bytes()))),
			payloadText(m))) // The table tells whether writing works.
	default:
		fmt.Fprintf(a.Out, "key %s is in partition %d of topic %s%s\n", printable.Line(partitioner.KeyName(e.Key)),
			*e.Partition, e.Topic, keyStoredText(e.Stored))
	}
	if len(e.Groups) == 0 && e.Partition != nil {
		fmt.Fprintln(a.Out, "no group that a live node serves reads this topic")
	}
	err := section(a.Out, table.Row{
		"group", "partition", "owner", screen.Wide("epoch"), "state", "done", "lag", "attempt", screen.Whole("error"),
		screen.Whole("message"),
	}, explainedRows(e.Groups))
	for _, g := range e.Groups {
		for _, step := range groupSteps(api.Group{Name: g.Group, Partitions: []api.Partition{g.Partition}}) {
			err = errors.Join(err, screen.Of(a.Out).Say(screen.Strong, "Next:", step))
		}
	}
	return err
}

// storedText is when a message was stored: its time and how long ago that was.
func storedText(stored string) string {
	at, err := time.Parse(time.RFC3339Nano, stored)
	if err != nil {
		return stored
	}
	return clockTime(stored) + " (" + screen.Ago(at, time.Now()) + ")"
}

func keyStoredText(stored bool) string {
	if stored {
		return ""
	}
	return ", which holds no message of it"
}

func explainedRows(groups []api.ExplainedGroup) []table.Row {
	rows := make([]table.Row, 0, len(groups))
	for _, g := range groups {
		rows = append(rows, table.Row{
			g.Group, g.Partition.Partition, cmp.Or(g.Owner, "nobody"), g.Epoch, laneCell(g.Partition), g.Done, lagCell(g.Lag),
			g.Attempt, whyStopped(g.Partition), g.Note,
		})
	}
	return rows
}
