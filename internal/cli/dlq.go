package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/schollz/progressbar/v3"
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
	flags.StringVar(&f.key, "key", "", "only of this key")
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
	if f.key != "" {
		// As listed, or as the publisher had it.
		if encoded, err := partitioner.EncodeKey(partitioner.DecodeKey(f.key)); err == nil && !strings.Contains(f.key, ".") {
			out.Key = encoded
		}
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
	for _, l := range letters {
		rows = append(rows, table.Row{l.Number, l.Kind, l.Reason, l.ID, partitioner.DecodeKey(l.Key), l.Attempts, l.LastFailure, l.Requeues, l.Error})
	}
	printTable(a.Out, table.Row{"number", "kind", "reason", "message", "key", "attempts", "last failure", "requeues", "error"}, rows)
	if more {
		fmt.Fprintf(a.Err, "there are more: raise --limit, or `leasehold dlq export %s`\n", group)
	}
	return nil
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
		{"set aside by", fmt.Sprintf("%s, epoch %d", l.Node, l.Epoch)}, {"key", partitioner.DecodeKey(l.Key)}, {"subject", l.Subject},
		{"published", l.Published}, {"requeues", strconv.Itoa(l.Requeues)},
	} {
		fmt.Fprintf(a.Out, "%-14s%s\n", row[0], row[1])
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
			next = fmt.Sprintf("`leasehold dlq release %s --key %s` handles it and those after it of its key", group, l.Key)
		}
		fmt.Fprintf(a.Err, "\nNext: once the handler is mended, %s\n", next)
	}
	return nil
}

// orderChunk is how many dead letters are done in one request, so that progress shows.
const orderChunk = 100

// order is a bulk command on dead letters.
type order struct {
	group  string
	args   []string // Numbers.
	filter letterFlags
	remove removeFlags
	verb   string // "requeue"
	past   string // "requeued"
	max    int
	do     func(*api.Client) func(context.Context, string, api.LetterOrder) (*api.LettersDone, error)
}

// runOrder chooses, asks, and does it chunk by chunk.
func (a *App) runOrder(cmd *cobra.Command, o order) error {
	if len(o.args) == 0 && !o.filter.chooses() {
		return usage("choose what to %s: numbers, --partition, --key, --reason, --since, or --all", o.verb)
	}
	client, err := a.client(cmd)
	if err != nil {
		return err
	}
	numbers, err := o.choose(cmd.Context(), client)
	if err != nil {
		return err
	}
	if o.remove.format != formatJSON {
		fmt.Fprintf(a.Out, "%s chosen in group %s\n", count(len(numbers), "dead letter"), o.group)
	}
	if o.remove.dryRun || len(numbers) == 0 {
		return a.jsonOnly(o.remove.format, struct {
			V      int      `json:"v"`
			DryRun bool     `json:"dry_run"`
			Chosen []uint64 `json:"chosen"`
		}{api.Version, o.remove.dryRun, numbers})
	}
	if err := a.confirm(cmd, o.remove, fmt.Sprintf("%s%s %s?", strings.ToUpper(o.verb[:1]), o.verb[1:], count(len(numbers), "dead letter"))); err != nil {
		return err
	}
	return a.doOrder(cmd.Context(), client, o, numbers)
}

func (o order) choose(ctx context.Context, client *api.Client) ([]uint64, error) {
	numbers, err := letterNumbers(o.args)
	if err != nil || len(numbers) > 0 {
		return numbers, err
	}
	filter, err := o.filter.filter()
	if err != nil {
		return nil, err
	}
	numbers = []uint64{}
	err = eachLetter(ctx, client, o.group, filter, func(l api.Letter) (bool, error) {
		numbers = append(numbers, l.Number)
		return true, nil
	})
	return numbers, err
}

func (a *App) doOrder(ctx context.Context, client *api.Client, o order, numbers []uint64) error {
	total := api.LettersDone{V: api.Version, Group: o.group, Done: []uint64{}, Failed: []api.LetterFailure{}}
	bar := a.progress(len(numbers), o.verb)
	for len(numbers) > 0 {
		n := min(orderChunk, len(numbers))
		done, err := o.do(client)(ctx, o.group, api.LetterOrder{Numbers: numbers[:n], MaxRequeues: o.max})
		if err != nil {
			return dlqError(err)
		}
		total.Done, total.Failed = append(total.Done, done.Done...), append(total.Failed, done.Failed...)
		numbers = numbers[n:]
		_ = bar.Add(n) // A bar that cannot be drawn is no reason to stop.
	}
	_ = bar.Finish()
	return a.reportOrder(o, total)
}

// progress is a bar on a terminal, else nothing.
func (a *App) progress(total int, what string) *progressbar.ProgressBar {
	return progressbar.NewOptions(total, progressbar.OptionSetWriter(a.Err), progressbar.OptionSetDescription(what),
		progressbar.OptionSetVisibility(isTerminal(a.Err)), progressbar.OptionClearOnFinish())
}

func (a *App) reportOrder(o order, total api.LettersDone) error {
	if o.remove.format == formatJSON {
		if err := printJSON(a.Out, total); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.Out, "%s %s\n", o.past, count(len(total.Done), "dead letter"))
		for i, f := range total.Failed {
			if i == 10 {
				fmt.Fprintf(a.Err, "… and %d more\n", len(total.Failed)-i)
				break
			}
			fmt.Fprintf(a.Err, "left %d: %s\n", f.Number, f.Error)
		}
	}
	switch {
	case len(total.Failed) == 0:
		return nil
	case len(total.Done) == 0:
		return &Error{Code: exitFailed, Err: fmt.Errorf("none was %s", o.past), Shown: true}
	}
	return &Error{Code: exitPartly, Err: fmt.Errorf("%d were left", len(total.Failed)), Shown: true}
}

func (a *App) dlqRequeueCommand() *cobra.Command {
	o := order{verb: "requeue", past: "requeued", do: func(c *api.Client) func(context.Context, string, api.LetterOrder) (*api.LettersDone, error) {
		return c.Requeue
	}}
	cmd := &cobra.Command{
		Use:   "requeue GROUP [NUMBER…]",
		Short: "Send dead letters to their topic again",
		Long: "They are published as new messages, at the end of the topic and for all its groups, with the message id that they came\n" +
			"with as idempotency key, and then removed here. Their place in the order of their key is lost: where it matters, use\n" +
			"on_exhausted = \"park_key\" and `dlq release`. Parked ones are left.",
		Example: "  leasehold dlq requeue billing 12\n  leasehold dlq requeue billing --reason max_attempts --since 2h --yes",
		Args:    cobra.MinimumNArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			o.group, o.args = args[0], args[1:]
			return a.runOrder(cmd, o)
		}),
	}
	addOrderFlags(cmd, &o)
	cmd.Flags().IntVar(&o.max, "max-requeues", 3, "leave those that were requeued so often before; 0: no limit")
	return cmd
}

func addOrderFlags(cmd *cobra.Command, o *order) {
	addRemoveFlags(cmd, &o.remove)
	o.filter.add(cmd)
	cmd.Flags().BoolVar(&o.filter.all, "all", false, "all of the group's")
}

func (a *App) dlqDropCommand() *cobra.Command {
	o := order{verb: "drop", past: "dropped", do: func(c *api.Client) func(context.Context, string, api.LetterOrder) (*api.LettersDone, error) {
		return c.Drop
	}}
	cmd := &cobra.Command{
		Use:   "drop GROUP [NUMBER…]",
		Short: "Delete dead letters for good",
		Long: "The group is done with these messages. A key of which the last parked one is dropped goes on with its next live message.\n" +
			"Each is named in the node's log.",
		Example: "  leasehold dlq drop billing 12 13\n  leasehold dlq drop billing --key c-17 --dry-run",
		Args:    cobra.MinimumNArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			o.group, o.args = args[0], args[1:]
			return a.runOrder(cmd, o)
		}),
	}
	addOrderFlags(cmd, &o)
	return cmd
}

func (a *App) dlqReleaseCommand() *cobra.Command {
	var f askFlags
	var keys []string
	var all bool
	cmd := &cobra.Command{
		Use:   "release GROUP (--key KEY | --all)",
		Short: "Handle parked messages, each key's in order, before live ones",
		Long: "The owner of a partition hands the parked messages of the key to the handler and removes each that succeeds; live messages\n" +
			"of the partition wait meanwhile. If one fails for good again, it and those after it stay parked. The command returns\n" +
			"when every partition has begun; `dlq list` and `status` show what is left.",
		Example: "  leasehold dlq release billing --key c-17\n  leasehold dlq release billing --all --yes",
		Args:    cobra.ExactArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if all == (len(keys) > 0) {
				return usage("choose what to release: --key, once or several times, or --all")
			}
			partitions, err := a.parkedPartitions(cmd, args[0], keys)
			if err != nil {
				return err
			}
			if f.partitions == "" {
				f.partitions = partitions
			}
			return a.runAsk(cmd, asking{
				group: args[0], ask: api.Ask{Kind: "release", Keys: keys}, f: f,
				plan:     func(p *api.Asked) string { return "would release in " + count(p.Partitions, "partition") },
				question: releaseQuestion(all, args[0]),
				done:     func(p *api.Asked) string { return "releasing in " + count(p.Applied, "partition") },
			})
		}),
	}
	addAskFlags(cmd, &f)
	cmd.Flags().StringArrayVar(&keys, "key", nil, "parked key; can be given several times")
	cmd.Flags().BoolVar(&all, "all", false, "every parked key")
	return cmd
}

func releaseQuestion(all bool, group string) func(*api.Asked) string {
	if !all {
		return nil // A key was named: that is choice enough.
	}
	return func(*api.Asked) string { return "Release every parked key of group " + group + "?" }
}

// parkedPartitions finds the partitions of parked keys, and replaces each key by how it is listed.
func (a *App) parkedPartitions(cmd *cobra.Command, group string, keys []string) (string, error) {
	client, err := a.client(cmd)
	if err != nil {
		return "", err
	}
	seen := map[string]bool{}
	found := map[string]bool{}
	err = eachLetter(cmd.Context(), client, group, api.LetterFilter{Kind: string(partitioner.Parked)}, func(l api.Letter) (bool, error) {
		wanted := len(keys) == 0
		for i, k := range keys {
			if l.Key == k || partitioner.DecodeKey(l.Key) == k {
				keys[i], wanted = l.Key, true
				found[l.Key] = true
			}
		}
		if wanted {
			seen[strconv.Itoa(l.Partition)] = true
		}
		return true, nil
	})
	if err != nil {
		return "", err
	}
	for _, k := range keys {
		if !found[k] {
			return "", failure(exitNotFound, "`leasehold dlq list "+group+" --kind parked` shows what is", "nothing of key %q is parked in group %q", k, group)
		}
	}
	if len(seen) == 0 {
		return "", failure(exitNotFound, "", "nothing is parked in group %q", group)
	}
	var list []string
	for p := range seen {
		list = append(list, p)
	}
	return strings.Join(list, ","), nil
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
