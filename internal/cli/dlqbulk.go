package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/cli/screen"
	"leasehold/internal/jsondata"
	"leasehold/partitioner"
)

// orderChunk is how many dead letters are done in one request, so that progress shows.
const orderChunk = 100

// outcomeWait is how long a requeue waits for the outcome of the messages.
const outcomeWait = 10 * time.Second

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
	wait   time.Duration
	do     func(*api.Client, context.Context, string, api.LetterOrder) (*api.LettersDone, error)
}

// runOrder chooses, asks, and does it chunk by chunk.
func (a *App) runOrder(cmd *cobra.Command, o order) error {
	if len(o.args) == 0 && !o.filter.chooses() {
		return usage("nothing selected to %s: name dead letters by number, --partition, --key, --reason or --since, or use "+
			"--all", o.verb)
	}
	if len(o.args) > 0 && o.filter.chooses() {
		return usage("choose what to %s by numbers, or by --partition, --key, --reason, --since or --all; not by both",
			o.verb)
	}
	client, err := a.client(cmd)
	if err != nil {
		return err
	}
	letters, err := o.choose(cmd.Context(), client)
	if err == nil && len(letters) == 0 && o.filter.key != "" {
		err = failure(exitNotFound, "`leasehold dlq list "+o.group+"` shows what there is",
			"no dead letter of key %q in group %q is chosen", o.filter.key, o.group)
	}
	if err != nil {
		return err
	}
	if o.remove.format != formatJSON {
		fmt.Fprintf(a.Out, "%s chosen in group %s\n", count(len(letters), "dead letter"), o.group)
	}
	numbers := numbersOf(letters)
	if o.remove.dryRun || len(letters) == 0 {
		return a.foreseeOrder(o, letters)
	}
	question := fmt.Sprintf("%s%s %s?", strings.ToUpper(o.verb[:1]), o.verb[1:], count(len(numbers), "dead letter"))
	if err := a.confirm(cmd, o.remove, question); err != nil {
		return err
	}
	return a.doOrder(cmd.Context(), client, o, numbers)
}

// choose returns the selected dead letters, without payload.
func (o order) choose(ctx context.Context, client *api.Client) ([]api.Letter, error) {
	numbers, err := letterNumbers(o.args)
	if err != nil {
		return nil, err
	}
	letters := []api.Letter{}
	for _, n := range numbers {
		l := api.Letter{Number: n}
		if o.remove.dryRun {
			page, err := client.DeadLetters(ctx, o.group, api.LetterFilter{Stored: n})
			if err != nil {
				return nil, dlqError(err, o.group)
			}
			l = page.Letters[0]
			l.Headers, l.Payload = nil, jsondata.Payload{}
		}
		letters = append(letters, l)
	}
	if len(numbers) > 0 {
		return letters, nil
	}
	filter, err := o.filter.filter()
	if err != nil {
		return nil, err
	}
	err = eachLetter(ctx, client, o.group, filter, func(l api.Letter) (bool, error) {
		letters = append(letters, l)
		return true, nil
	})
	return letters, err
}

func numbersOf(letters []api.Letter) []uint64 {
	numbers := make([]uint64, len(letters))
	for i, l := range letters {
		numbers[i] = l.Number
	}
	return numbers
}

// maxForeseen is how many dead letters a dry run lists in its table; -o json has all.
const maxForeseen = 100

// foreseeOrder lists the dead letters that a command would affect.
func (a *App) foreseeOrder(o order, letters []api.Letter) error {
	if o.remove.format == formatJSON {
		return printJSON(a.Out, struct {
			V       int          `json:"v"`
			DryRun  bool         `json:"dry_run"`
			Chosen  []uint64     `json:"chosen"`
			Letters []api.Letter `json:"letters"`
		}{api.Version, o.remove.dryRun, numbersOf(letters), letters})
	}
	if len(letters) == 0 {
		return nil
	}
	left := 0
	for _, l := range letters {
		if o.verb == "requeue" && (l.Kind == string(partitioner.Parked) || o.max > 0 && l.Requeues >= o.max) {
			left++
		}
	}
	shown := letters[:min(len(letters), maxForeseen)]
	if err := a.printLetters(o.group, shown, false, formatTable); err != nil {
		return err
	}
	if more := len(letters) - len(shown); more > 0 {
		fmt.Fprintf(a.Err, "… and %d more; -o json lists all\n", more)
	}
	if left > 0 {
		fmt.Fprintf(a.Out, "%s of these would be left: parked, or requeued %d times before\n", humanize.Comma(int64(left)),
			o.max)
	}
	return nil
}

func (a *App) doOrder(ctx context.Context, client *api.Client, o order, numbers []uint64) error {
	total := api.LettersDone{V: api.Version, Group: o.group, Done: []uint64{}, Failed: []api.LetterFailure{}}
	bar := a.progress(len(numbers), o.verb)
	for len(numbers) > 0 {
		n := min(orderChunk, len(numbers))
		done, err := o.do(client, ctx, o.group, api.LetterOrder{Numbers: numbers[:n], MaxRequeues: o.max, AllGroups: o.all})
		if err != nil {
			return dlqError(err, o.group)
		}
		total.Done, total.Failed = append(total.Done, done.Done...), append(total.Failed, done.Failed...)
		total.Requeued = append(total.Requeued, done.Requeued...)
		numbers = numbers[n:]
		_ = bar.Add(n) // A bar that cannot be drawn is no reason to stop.
	}
	_ = bar.Finish()
	if len(total.Requeued) == 0 || o.wait <= 0 {
		return a.reportOrder(o, orderReport{LettersDone: total})
	}
	if o.remove.format != formatJSON {
		fmt.Fprintf(a.Out, "%s %s; waiting for the outcome\n", o.past, count(len(total.Done), "dead letter"))
	}
	todo := make([]fate, len(total.Requeued))
	for i, m := range total.Requeued {
		todo[i] = fate{Partition: m.Partition, Seq: m.Seq, Key: m.Key}
	}
	f := follow{client: client, group: o.group, limit: time.Now().Add(o.wait), passed: requeuedPassed(client, o.group)}
	came, err := f.run(ctx, todo)
	if err != nil {
		return err
	}
	return a.reportOrder(o, orderReport{LettersDone: total, Outcome: &came})
}

// orderReport is what an order ends with.
type orderReport struct {
	api.LettersDone
	Outcome *outcome `json:"outcome,omitempty"`
}

// progress is a bar on a terminal, else nothing.
func (a *App) progress(total int, what string) *progressbar.ProgressBar {
	return progressbar.NewOptions(total, progressbar.OptionSetWriter(screen.Of(a.Err).Raw()),
		progressbar.OptionSetDescription(what), progressbar.OptionSetVisibility(isTerminal(a.Err)),
		progressbar.OptionClearOnFinish())
}

func (a *App) reportOrder(o order, total orderReport) error {
	if o.remove.format == formatJSON {
		if err := printJSON(a.Out, total); err != nil {
			return err
		}
	} else {
		if total.Outcome == nil {
			fmt.Fprintf(a.Out, "%s %s\n", o.past, count(len(total.Done), "dead letter"))
		}
		for i, f := range total.Failed {
			if i == 10 {
				fmt.Fprintf(a.Err, "… and %d more\n", len(total.Failed)-i)
				break
			}
			fmt.Fprintf(a.Err, "left %d: %s\n", f.Number, f.Error)
		}
	}
	if total.Outcome != nil {
		if err := a.printOutcome(o.group, *total.Outcome, o.remove.format); err != nil {
			return err
		}
	}
	switch {
	case len(total.Failed) == 0:
		return nil
	case len(total.Done) == 0:
		return &Error{Code: exitFailed, Err: fmt.Errorf("no dead letters were %s", o.past), Shown: true}
	}
	return &Error{Code: exitPartly, Err: fmt.Errorf("%d were left", len(total.Failed)), Shown: true}
}

func (a *App) dlqRequeueCommand() *cobra.Command {
	o := order{verb: "requeue", past: "requeued", do: (*api.Client).Requeue}
	cmd := &cobra.Command{
		Use:   "requeue GROUP [NUMBER…]",
		Short: "Publish dead letters to their topic again",
		Long: "The messages are published as new ones, at the end of the topic, with their original message id as " +
			"idempotency key,\n" +
			"and then removed from the dead letters. Only this group handles them; the topic's other groups skip them, " +
			"unless\n" +
			"--all-groups is given. They lose their place in the order of their key: if that matters, use on_exhausted = " +
			"\"park_key\"\n" +
			"and `dlq release`. Parked messages are skipped. The command waits up to --wait for the outcome: handled, failed " +
			"again,\n" +
			"or still waiting.",
		Example: "  leasehold dlq requeue billing 12\n  leasehold dlq requeue billing --reason max_attempts --since 2h --yes",
	}
	a.makeOrder(cmd, &o)
	lengthVar(cmd, &o.wait, "wait", outcomeWait, "how long to wait for the outcome; 0: do not wait")
	cmd.Flags().BoolVar(&o.all, "all-groups", false,
		"deliver to every group of the topic again, also to those that have handled the messages")
	numberVar(cmd, &o.max, "max-requeues", 3, 0, "skip dead letters that were requeued this often; 0: no limit")
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
	cmd.Flags().BoolVar(&o.filter.all, "all", false, "all dead letters of the group")
}

func (a *App) dlqDropCommand() *cobra.Command {
	o := order{verb: "drop", past: "dropped", do: (*api.Client).Drop}
	cmd := &cobra.Command{
		Use:   "drop GROUP [NUMBER…]",
		Short: "Delete dead letters",
		Long: "The group never handles these messages. When the last parked message of a key is dropped, the key continues " +
			"with its next\n" +
			"live message. Each dropped message is named in the node's log.",
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
		Short: "Handle parked messages in order, before later ones of their key",
		Long: "The owner of a partition hands the parked messages of the key to the handler and removes each that " +
			"succeeds; live messages\n" +
			"of the partition wait meanwhile. If one uses up its attempts again, it and those after it stay parked. The " +
			"command waits\n" +
			"up to --wait for the outcome: handled, failed again, or still waiting.",
		Example: "  leasehold dlq release billing --key c-17\n  leasehold dlq release billing --all --yes",
		Args:    cobra.ExactArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if all == (len(keys) > 0) {
				return usage("nothing selected to release: use --key, once or several times, or --all")
			}
			client, err := a.client(cmd)
			if err != nil {
				return err
			}
			todo, err := parkedMessages(cmd.Context(), client, args[0], keys)
			if err != nil {
				return err
			}
			if todo, f.partitions, err = within(todo, f.partitions); err != nil {
				return err
			}
			return a.runAsk(cmd, asking{
				group: args[0], ask: api.Ask{Kind: "release", Keys: keys}, f: f,
				plan:     func(p *api.Asked) string { return "would release in " + count(p.Partitions, "partition") },
				question: releaseQuestion(all, args[0]),
				done:     func(p *api.Asked) string { return "releasing in " + count(p.Applied, "partition") },
				follow: func(request uint64) *follow {
					return &follow{client: client, group: args[0], passed: releasedPassed(client, args[0], request)}
				},
				todo: todo,
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

// parkedMessages finds the parked messages of keys, of all keys if none is named, and replaces the name of each key by
// its exact one.
func parkedMessages(ctx context.Context, client *api.Client, group string, keys []string) (all []fate, err error) {
	for i := range max(1, len(keys)) {
		f := api.LetterFilter{Kind: string(partitioner.Parked)}
		if len(keys) > 0 {
			f.Key = keys[i]
		}
		before := len(all)
		err := eachLetter(ctx, client, group, f, func(l api.Letter) (bool, error) {
			all = append(all, fate{Partition: l.Partition, Seq: l.Seq, Key: l.Key})
			return true, nil
		})
		switch {
		case err != nil:
			return nil, err
		case len(all) == before && f.Key != "":
			return nil, failure(exitNotFound, "`leasehold dlq list "+group+" --kind parked` shows what is",
				"nothing of key %q is parked in group %q", f.Key, group)
		case len(all) == before:
			return nil, failure(exitNotFound, "", "nothing is parked in group %q", group)
		case f.Key != "":
			keys[i] = exactName(all[before].Key)
		}
	}
	return all, nil
}

// within keeps the messages of the partitions that were asked for, and names those of all messages if none were.
func within(all []fate, asked string) (kept []fate, partitions string, err error) {
	list, err := parsePartitions(asked)
	if err != nil {
		return nil, "", err
	}
	seen := map[string]bool{}
	for _, m := range all {
		if asked == "" || slices.Contains(list, m.Partition) {
			kept = append(kept, m)
			seen[strconv.Itoa(m.Partition)] = true
		}
	}
	if asked == "" {
		asked = strings.Join(slices.Sorted(maps.Keys(seen)), ",")
	}
	return kept, asked, nil
}
