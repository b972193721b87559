package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/partitioner"
)

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
	all    bool // Requeue for every group of the topic.
	do     func(*api.Client, context.Context, string, api.LetterOrder) (*api.LettersDone, error)
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
	if err == nil && len(numbers) == 0 && o.filter.key != "" {
		err = failure(exitNotFound, "`leasehold dlq list "+o.group+"` shows what there is", "no dead letter of key %q in group %q is chosen", o.filter.key, o.group)
	}
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
		done, err := o.do(client, ctx, o.group, api.LetterOrder{Numbers: numbers[:n], MaxRequeues: o.max, AllGroups: o.all})
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
	o := order{verb: "requeue", past: "requeued", do: (*api.Client).Requeue}
	cmd := &cobra.Command{
		Use:   "requeue GROUP [NUMBER…]",
		Short: "Send dead letters to their topic again",
		Long: "They are published as new messages, at the end of the topic, with the message id that they came with as idempotency key,\n" +
			"and then removed here. Only this group handles them; the topic's other groups pass them over, unless --all-groups.\n" +
			"Their place in the order of their key is lost: where it matters, use on_exhausted = \"park_key\" and `dlq release`.\n" +
			"Parked ones are left.",
		Example: "  leasehold dlq requeue billing 12\n  leasehold dlq requeue billing --reason max_attempts --since 2h --yes",
	}
	a.makeOrder(cmd, &o)
	cmd.Flags().BoolVar(&o.all, "all-groups", false, "deliver to every group of the topic again, also to those that have handled the messages")
	cmd.Flags().IntVar(&o.max, "max-requeues", 3, "leave those that were requeued so often before; 0: no limit")
	return cmd
}

// makeOrder gives a command the arguments and flags of an order, and has it run one.
func (a *App) makeOrder(cmd *cobra.Command, o *order) {
	cmd.Args = cobra.MinimumNArgs(1)
	cmd.RunE = action(func(cmd *cobra.Command, args []string) error {
		o.group, o.args = args[0], args[1:]
		return a.runOrder(cmd, *o)
	})
	addRemoveFlags(cmd, &o.remove)
	o.filter.add(cmd)
	cmd.Flags().BoolVar(&o.filter.all, "all", false, "all of the group's")
}

func (a *App) dlqDropCommand() *cobra.Command {
	o := order{verb: "drop", past: "dropped", do: (*api.Client).Drop}
	cmd := &cobra.Command{
		Use:   "drop GROUP [NUMBER…]",
		Short: "Delete dead letters for good",
		Long: "The group is done with these messages. A key of which the last parked one is dropped goes on with its next live message.\n" +
			"Each is named in the node's log.",
		Example: "  leasehold dlq drop billing 12 13\n  leasehold dlq drop billing --key c-17 --dry-run",
	}
	a.makeOrder(cmd, &o)
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
			client, err := a.client(cmd)
			if err != nil {
				return err
			}
			partitions, err := parkedPartitions(cmd.Context(), client, args[0], keys)
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
	cmd.Flags().StringArrayVar(&keys, "key", nil, "parked key, "+keyForms+"; can be given several times")
	cmd.Flags().BoolVar(&all, "all", false, "every parked key")
	return cmd
}

func releaseQuestion(all bool, group string) func(*api.Asked) string {
	if !all {
		return nil // A key was named: that is choice enough.
	}
	return func(*api.Asked) string { return "Release every parked key of group " + group + "?" }
}

// parkedPartitions finds the partitions of parked keys, and replaces the name of each key by its exact one.
func parkedPartitions(ctx context.Context, client *api.Client, group string, keys []string) (string, error) {
	seen := map[string]bool{}
	for i := range max(1, len(keys)) {
		f := api.LetterFilter{Kind: string(partitioner.Parked)}
		if len(keys) > 0 {
			f.Key = keys[i]
		}
		found := ""
		err := eachLetter(ctx, client, group, f, func(l api.Letter) (bool, error) {
			seen[strconv.Itoa(l.Partition)] = true
			found = exactName(l.Key)
			return true, nil
		})
		switch {
		case err != nil:
			return "", err
		case found == "" && f.Key != "":
			return "", failure(exitNotFound, "`leasehold dlq list "+group+" --kind parked` shows what is", "nothing of key %q is parked in group %q", f.Key, group)
		case found == "":
			return "", failure(exitNotFound, "", "nothing is parked in group %q", group)
		case f.Key != "":
			keys[i] = found
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(seen)), ","), nil
}
