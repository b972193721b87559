package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/cli/screen"
	"leasehold/partitioner"
)

func (a *App) dlqCommand() *cobra.Command {
	return group("dlq", "Manage dead letters: messages that a group's handler could not handle", a.dlqListCommand(),
		a.dlqShowCommand(), a.dlqRequeueCommand(), a.dlqReleaseCommand(), a.dlqDropCommand(), a.dlqExportCommand())
}

// letterFlags choose dead letters.
type letterFlags struct {
	partition   int
	key, reason string
	kind        string
	since       string
	all         bool
	local       bool
}

func (f *letterFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	numberVar(cmd, &f.partition, "partition", -1, 0, "only of this partition")
	flags.Var(word{&f.key}, "key", "only of this key: "+keyForms)
	flags.Var(word{&f.reason}, "reason", "only with this reason: rejected, max_attempts or parked")
	flags.Var(word{&f.since}, "since", "only those whose last failure is since "+sinceHelp)
}

// addReading adds the flags of commands that only read dead letters.
func (f *letterFlags) addReading(cmd *cobra.Command) {
	addLocal(cmd, &f.local)
	cmd.Flags().Var(word{&f.kind}, "kind", "only dead or parked ones")
}

// chooses reports whether anything was chosen at all.
func (f *letterFlags) chooses() bool {
	return f.all || f.partition >= 0 || f.key != "" || f.reason != "" || f.since != ""
}

func (f *letterFlags) filter() (api.LetterFilter, error) {
	out := api.LetterFilter{Kind: f.kind, Reason: f.reason, Key: f.key, Local: f.local}
	if f.partition >= 0 {
		out.Partition = &f.partition
	}
	switch f.reason {
	case "", "rejected", "max_attempts", "parked":
	default:
		return out, usage("--reason %q: use rejected, max_attempts or parked", f.reason)
	}
	switch f.kind {
	case "", string(partitioner.Dead), string(partitioner.Parked):
	default:
		return out, usage("--kind %q: use dead or parked", f.kind)
	}
	if f.since == "" {
		return out, nil
	}
	at, err := parseSince(f.since, time.Now())
	out.Since = at
	return out, err
}

// eachLetter goes through all that a filter chooses, a page at a time.
func eachLetter(ctx context.Context, client *api.Client, group string, f api.LetterFilter,
	do func(api.Letter) (more bool, err error)) error {
	for {
		page, err := client.DeadLetters(ctx, group, f)
		if err != nil {
			return refused(err, "`leasehold group list` shows the groups")
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

func dlqError(err error, group string) error {
	return refused(err, fmt.Sprintf("`leasehold dlq list %s` shows what there is, `leasehold group list` the groups",
		group))
}

func (a *App) dlqListCommand() *cobra.Command {
	var f letterFlags
	var format string
	var limit int
	cmd := &cobra.Command{
		Use:   "list GROUP",
		Short: "List a group's dead letters",
		Long: "A \"dead\" message used up its attempts, and later ones of its key were handled. A \"parked\" one waits, " +
			"with every later\n" +
			"message of its key, until `dlq release`.",
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
			if f.local {
				a.warnLocal()
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
	addTable(cmd, &format)
	f.add(cmd)
	f.addReading(cmd)
	numberVar(cmd, &limit, "limit", 100, 1, "show at most this many")
	return cmd
}

func (a *App) printLetters(group string, letters []api.Letter, more bool, format string) error {
	if format == formatJSON {
		return printJSON(a.Out, api.LetterList{V: api.Version, Group: group, Letters: letters})
	}
	if len(letters) == 0 && isTerminal(a.Out) {
		fmt.Fprintf(a.Err, "no dead letters in group %s\n", group)
		return nil
	}
	rows := make([]table.Row, 0, len(letters))
	names := letterKeyNames(letters)
	for _, l := range letters {
		rows = append(rows, table.Row{
			l.Number, screen.Paint(screen.Yellow, l.Kind), l.Reason, l.ID, names[l.Key], l.Attempts, screen.Stamp(l.LastFailure),
			l.Requeues, l.Error,
		})
	}
	if err := printTable(a.Out, table.Row{
		"number", "kind", "reason", "message", "key", "attempts", "last failure", screen.Wide("requeues"),
		screen.Whole("error"),
	}, rows); err != nil {
		return err
	}
	a.hintLetters(group, letters)
	if more {
		// A hint only.
		_ = screen.Of(a.Err).Tell(fmt.Sprintf("there are more: raise --limit, or `leasehold dlq export %s`", group))
	}
	return nil
}

// hintLetters says at a terminal what can be done about a list of dead letters.
func (a *App) hintLetters(group string, letters []api.Letter) {
	if !isTerminal(a.Out) {
		return
	}
	var step string
	switch isParked := func(l api.Letter) bool { return l.Kind == string(partitioner.Parked) }; {
	case slices.ContainsFunc(letters, isParked):
		step = fmt.Sprintf("`leasehold dlq show %s NUMBER` shows one; once the handler is fixed, `leasehold dlq release %s "+
			"--all` handles the parked ones", group, group)
	default:
		step = fmt.Sprintf("`leasehold dlq show %s NUMBER` shows one; once the handler is fixed, `leasehold dlq requeue %s "+
			"--all`", group, group)
	}
	_ = screen.Of(a.Err).Say(screen.Strong, "Next:", step) // A hint only.
}

// addLocal gives a command that reads dead letters the flag --local.
func addLocal(cmd *cobra.Command, local *bool) {
	cmd.Flags().BoolVar(local, "local", false, "read the replica of the node that is asked, without a quorum")
}

func (a *App) dlqShowCommand() *cobra.Command {
	var format string
	var local bool
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
			page, err := client.DeadLetters(cmd.Context(), args[0], api.LetterFilter{Stored: numbers[0], Local: local})
			if err != nil {
				return dlqError(err, args[0])
			}
			if local {
				a.warnLocal()
			}
			return a.showLetter(page.Letters[0], args[0], format)
		}),
	}
	addOutput(cmd, &format)
	addLocal(cmd, &local)
	return cmd
}

func letterNumbers(args []string) ([]uint64, error) {
	var all []uint64
	for _, arg := range args {
		n, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || n == 0 {
			return nil, usage("%q is not the number of a dead letter; `leasehold dlq list GROUP` shows them", arg)
		}
		all = append(all, n)
	}
	return all, nil
}

func (a *App) showLetter(l api.Letter, group, format string) error {
	if format == formatJSON {
		return printJSON(a.Out, l)
	}
	// Only the payload has lines of its own: everything else is shown in one.
	for _, row := range append([][2]string{
		{"number", strconv.FormatUint(l.Number, 10)}, {"message", l.ID}, {"kind", l.Kind}, {"reason", l.Reason},
		{"error", l.Error},
		{"attempts", strconv.Itoa(l.Attempts)}, {"first failure", storedText(l.FirstFailure)},
		{"last failure", storedText(l.LastFailure)},
		{"node", fmt.Sprintf("%s, epoch %d", l.Node, l.Epoch)}, {"key", partitioner.KeyName(l.Key)}, {"subject", l.Subject},
		{"published", storedText(l.Published)}, {"requeues", strconv.Itoa(l.Requeues)}, {"left out", l.LeftOut},
	}, headerRows(l.Headers)...) {
		if row[1] != "" || row[0] != "left out" {
			_ = screen.Of(a.Out).Field(row[0], row[1]) // The payload's line tells whether writing works.
		}
	}
	if l.Data != nil {
		fmt.Fprintf(a.Out, "\n%s\n", indented(*l.Data))
	} else {
		fmt.Fprintf(a.Out, "\n%d bytes that are not text; -o json shows them in base64\n", l.Bytes)
	}
	if isTerminal(a.Out) {
		next := fmt.Sprintf("`leasehold dlq requeue %s %d` sends it to its topic again", group, l.Number)
		if l.Kind == string(partitioner.Parked) {
			next = fmt.Sprintf("`leasehold dlq release %s --key %s` handles it and those after it of its key", group,
				shellWord(partitioner.KeyName(l.Key)))
		}
		fmt.Fprintln(a.Err)
		_ = screen.Of(a.Err).Say(screen.Strong, "Next:", "once the handler is fixed, "+next) // A hint only.
	}
	return nil
}

// indented is a payload of several lines, none of which may look like one of ours.
func indented(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

func headerRows(headers map[string][]string) (rows [][2]string) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		rows = append(rows, [2]string{"header", name + ": " + strings.Join(headers[name], ", ")})
	}
	return rows
}

func (a *App) dlqExportCommand() *cobra.Command {
	var f letterFlags
	cmd := &cobra.Command{
		Use:   "export GROUP",
		Short: "Write dead letters to stdout as JSON lines, with headers and payload",
		Example: "  leasehold dlq export billing > billing-dead.ndjson\n  leasehold dlq export billing --key c-17 | jq -r " +
			".data\n" +
			"  leasehold dlq export billing --local > billing-dead.ndjson     of this node alone, without a quorum",
		Args: cobra.ExactArgs(1),
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
			if f.local {
				a.warnLocal()
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
	f.addReading(cmd)
	return cmd
}
