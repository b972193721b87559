package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/partitioner"
)

func (a *App) dlqCommand() *cobra.Command {
	return group("dlq", "Dead letters: messages that a group set aside", a.dlqListCommand(), a.dlqShowCommand(), a.dlqRequeueCommand(),
		a.dlqReleaseCommand(), a.dlqDropCommand(), a.dlqExportCommand())
}

// letterFlags choose dead letters.
type letterFlags struct {
	partition   int
	key, reason string
	kind        string
	since       string
	all         bool
}

func (f *letterFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.IntVar(&f.partition, "partition", -1, "only of this partition")
	flags.StringVar(&f.key, "key", "", "only of this key: "+keyForms)
	flags.StringVar(&f.reason, "reason", "", "only with this reason: rejected, max_attempts or parked")
	flags.StringVar(&f.since, "since", "", "only those that failed last after this: RFC3339, or a time back from now like 2h")
}

// chooses reports whether anything was chosen at all.
func (f *letterFlags) chooses() bool {
	return f.all || f.partition >= 0 || f.key != "" || f.reason != "" || f.since != ""
}

func (f *letterFlags) filter() (api.LetterFilter, error) {
	out := api.LetterFilter{Kind: f.kind, Reason: f.reason, Key: f.key}
	if f.partition >= 0 {
		out.Partition = &f.partition
	}
	switch f.reason {
	case "", "rejected", "max_attempts", "parked":
	default:
		return out, usage("--reason %s: there are rejected, max_attempts and parked", f.reason)
	}
	if f.since == "" {
		return out, nil
	}
	if d, err := time.ParseDuration(strings.TrimPrefix(f.since, "-")); err == nil {
		out.Since = time.Now().Add(-d)
		return out, nil
	}
	at, err := time.Parse(time.RFC3339, f.since)
	if err != nil {
		return out, usage("--since %s: write a time like 2026-01-02T15:04:05Z, or like 2h", f.since)
	}
	out.Since = at
	return out, nil
}

// eachLetter goes through all that a filter chooses, a page at a time.
func eachLetter(ctx context.Context, client *api.Client, group string, f api.LetterFilter, do func(api.Letter) (more bool, err error)) error {
	for {
		page, err := client.DeadLetters(ctx, group, f)
		if err != nil {
			return dlqError(err)
		}
		for _, l := range page.Letters {
			if more, err := do(l); err != nil || !more {
				return err
			}
		}
		if page.Next == 0 {
			return nil
		}
		f.After = page.Next
	}
}

func dlqError(err error) error {
	return refused(err, "`leasehold dlq list GROUP` shows what there is, `leasehold group list` the groups")
}

func (a *App) dlqListCommand() *cobra.Command {
	var f letterFlags
	var format string
	var limit int
	cmd := &cobra.Command{
		Use:   "list GROUP",
		Short: "List a group's dead letters",
		Long: "A \"dead\" one failed for good and others of its key went on. A \"parked\" one waits with every later one of its key until\n" +
			"`dlq release`.",
		Example: "  leasehold dlq list billing\n  leasehold dlq list billing --reason max_attempts --since 2h -o json",
		Args:    cobra.ExactArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			filter, err := f.filter()
			if err != nil {
				return err
			}
			client, err := a.client(cmd)
			if err != nil {
				return err
			}
			letters := []api.Letter{}
			more := false
			err = eachLetter(cmd.Context(), client, args[0], filter, func(l api.Letter) (bool, error) {
				if len(letters) == limit {
					more = true
					return false, nil
				}
				letters = append(letters, l)
				return true, nil
			})
			if err != nil {
				return err
			}
			return a.printLetters(args[0], letters, more, format)
		}),
	}
	addOutput(cmd, &format)
	f.add(cmd)
	cmd.Flags().StringVar(&f.kind, "kind", "", "only dead or parked ones")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most so many")
	return cmd
}

func (a *App) printLetters(group string, letters []api.Letter, more bool, format string) error {
	if format == formatJSON {
		return printJSON(a.Out, api.LetterList{V: api.Version, Group: group, Letters: letters})
	}
	rows := make([]table.Row, 0, len(letters))
	names := letterKeyNames(letters)
	for _, l := range letters {
		rows = append(rows, table.Row{l.Number, l.Kind, l.Reason, l.ID, names[l.Key], l.Attempts, l.LastFailure, l.Requeues, shortError(l.Error)})
	}
	printTable(a.Out, table.Row{"number", "kind", "reason", "message", "key", "attempts", "last failure", "requeues", "error"}, rows)
	if more {
		fmt.Fprintf(a.Err, "there are more: raise --limit, or `leasehold dlq export %s`\n", group)
	}
	return nil
}

// shortError is an error for a table: its beginning and its end, which of a trace say what it is about.
func shortError(text string) string {
	const begin, end = 32, 44
	r := []rune(text)
	if len(r) <= begin+end+3 {
		return text
	}
	return strings.TrimSpace(string(r[:begin])) + " … " + strings.TrimSpace(string(r[len(r)-end:]))
}

func (a *App) dlqShowCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "show GROUP NUMBER",
		Short:   "Show one dead letter with headers and payload",
		Example: "  leasehold dlq show billing 12\n  leasehold dlq show billing 12 -o json | jq -r .data",
		Args:    cobra.ExactArgs(2),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			numbers, err := letterNumbers(args[1:])
			if err != nil {
				return err
			}
			client, err := a.client(cmd)
			if err != nil {
				return err
			}
			page, err := client.DeadLetters(cmd.Context(), args[0], api.LetterFilter{Stored: numbers[0]})
			if err != nil {
				return dlqError(err)
			}
			return a.showLetter(page.Letters[0], args[0], format)
		}),
	}
	addOutput(cmd, &format)
	return cmd
}

func letterNumbers(args []string) ([]uint64, error) {
	var all []uint64
	for _, arg := range args {
		n, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || n == 0 {
			return nil, usage("%q is no number of a dead letter; `leasehold dlq list GROUP` shows them", arg)
		}
		all = append(all, n)
	}
	return all, nil
}

func (a *App) showLetter(l api.Letter, group, format string) error {
	if format == formatJSON {
		return printJSON(a.Out, l)
	}
	for _, row := range [][2]string{
		{"number", strconv.FormatUint(l.Number, 10)}, {"message", l.ID}, {"kind", l.Kind}, {"reason", l.Reason}, {"error", l.Error},
		{"attempts", strconv.Itoa(l.Attempts)}, {"first failure", l.FirstFailure}, {"last failure", l.LastFailure},
		{"set aside by", fmt.Sprintf("%s, epoch %d", l.Node, l.Epoch)}, {"key", partitioner.KeyName(l.Key)}, {"subject", l.Subject},
		{"published", l.Published}, {"requeues", strconv.Itoa(l.Requeues)},
	} {
		fmt.Fprintf(a.Out, "%-14s%s\n", row[0], row[1])
	}
	if l.LeftOut != "" {
		fmt.Fprintf(a.Out, "%-14s%s\n", "left out", l.LeftOut)
	}
	for name, values := range l.Headers {
		fmt.Fprintf(a.Out, "%-14s%s: %s\n", "header", name, strings.Join(values, ", "))
	}
	if l.Data != nil {
		fmt.Fprintf(a.Out, "\n%s\n", *l.Data)
	} else {
		fmt.Fprintf(a.Out, "\n%d bytes that are no text; -o json shows them in base64\n", l.Bytes)
	}
	if isTerminal(a.Out) {
		next := fmt.Sprintf("`leasehold dlq requeue %s %d` sends it to its topic again", group, l.Number)
		if l.Kind == string(partitioner.Parked) {
			next = fmt.Sprintf("`leasehold dlq release %s --key %s` handles it and those after it of its key", group, shellQuote(partitioner.KeyName(l.Key)))
		}
		fmt.Fprintf(a.Err, "\nNext: once the handler is mended, %s\n", next)
	}
	return nil
}

func (a *App) dlqExportCommand() *cobra.Command {
	var f letterFlags
	cmd := &cobra.Command{
		Use:     "export GROUP",
		Short:   "Write dead letters to stdout, one JSON object a line, with headers and payload",
		Example: "  leasehold dlq export billing > billing-dead.ndjson\n  leasehold dlq export billing --key c-17 | jq -r .data",
		Args:    cobra.ExactArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			filter, err := f.filter()
			if err != nil {
				return err
			}
			filter.Data, filter.Limit = true, orderChunk
			client, err := a.client(cmd)
			if err != nil {
				return err
			}
			n, encoder := 0, json.NewEncoder(a.Out)
			err = eachLetter(cmd.Context(), client, args[0], filter, func(l api.Letter) (bool, error) {
				n++
				return true, encoder.Encode(l)
			})
			if err == nil {
				fmt.Fprintf(a.Err, "exported %s\n", count(n, "dead letter"))
			}
			return err
		}),
	}
	f.add(cmd)
	return cmd
}
