package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/cli/screen"
	"leasehold/internal/duration"
	"leasehold/internal/every"
	"leasehold/internal/plural"
)

// askFlags are those of every command that asks something of partitions.
type askFlags struct {
	removeFlags
	partitions string
	wait       time.Duration
}

func addAskFlags(cmd *cobra.Command, f *askFlags) {
	addRemoveFlags(cmd, &f.removeFlags)
	cmd.Flags().Var(word{&f.partitions}, "partition",
		"only these partitions, like 3 or 0-7,12 (default: all of the group's)")
	lengthVar(cmd, &f.wait, "wait", 30*time.Second,
		"how long to wait until every partition has it, and has handled what is released; 0: do not wait")
}

// parsePartitions reads a list like "0-7,12".
func parsePartitions(text string) ([]int, error) {
	var all []int
	if text == "" {
		return nil, nil
	}
	for _, part := range strings.Split(text, ",") {
		low, high, isRange := strings.Cut(strings.TrimSpace(part), "-")
		from, err := strconv.Atoi(low)
		to := from
		if err == nil && isRange {
			to, err = strconv.Atoi(high)
		}
		if err != nil || from < 0 || to < from || to-from > 1<<16 {
			return nil, usage("--partition %s: write numbers and ranges, like 3 or 0-7,12", text)
		}
		for p := from; p <= to; p++ {
			all = append(all, p)
		}
	}
	return all, nil
}

// asking is one request on its way.
type asking struct {
	group string
	ask   api.Ask
	f     askFlags
	// question is what the operator is asked first, given what a dry run found; empty: nothing.
	question func(plan *api.Asked) string
	// plan says what would be done, and done what was.
	plan func(*api.Asked) string
	done func(*api.Asked) string
	// follow looks, once the request is applied, what comes of the messages todo; nil: there are none.
	follow func(request uint64) *follow
	todo   []fate
}

// runAsk looks what a request would do, has it confirmed, makes it, and waits until it is applied everywhere.
func (a *App) runAsk(cmd *cobra.Command, q asking) error {
	partitions, err := parsePartitions(q.f.partitions)
	if err != nil {
		return err
	}
	client, err := a.client(cmd)
	if err != nil {
		return err
	}
	q.ask.Partitions = partitions
	if q.f.dryRun || q.question != nil {
		dry := q.ask
		dry.DryRun = true
		plan, err := client.Ask(cmd.Context(), q.group, dry)
		if err != nil {
			return askError(err)
		}
		if q.f.format != formatJSON {
			fmt.Fprintln(a.Out, q.plan(plan))
		}
		if q.f.dryRun {
			return a.jsonOnly(q.f.format, plan)
		}
		if err := a.confirm(cmd, q.f.removeFlags, q.question(plan)); err != nil {
			return err
		}
	}
	asked, err := client.Ask(cmd.Context(), q.group, q.ask)
	if err != nil {
		return askError(err)
	}
	return a.awaitApplied(cmd, client, q, asked)
}

func askError(err error) error {
	return refused(err, "`leasehold group list` shows the groups, `leasehold status` their partitions")
}

// retryPause is between two questions if the first was answered too soon, or not at all.
const retryPause = 100 * time.Millisecond

// awaitApplied waits until every partition has it.
func (a *App) awaitApplied(cmd *cobra.Command, client *api.Client, q asking, asked *api.Asked) error {
	limit := time.Now().Add(q.f.wait)
	last := asked
	longest := api.MaxWait
	for wait := time.Duration(0); q.f.wait > 0; wait = min(time.Until(limit), longest) {
		begun := time.Now()
		now, err := client.Asked(cmd.Context(), q.group, asked.ID, wait)
		if err == nil {
			last = now
			last.Kind, last.Seq, last.Again, last.Skipped, last.Skips = asked.Kind, asked.Seq, asked.Again, asked.Skipped,
				asked.Skips
			if len(now.Waiting) == 0 {
				last.Partitions, last.Applied = asked.Partitions, asked.Partitions
				break
			}
		}
		if time.Now().After(limit) {
			if err != nil {
				return err
			}
			return failure(exitTimeout, "",
				"request %d is pending on %s (%s): it is applied when the call in flight there finishes", asked.ID,
				count(len(now.Waiting), "partition"), partitionList(now.Waiting))
		}
		if tooSoon := err != nil || longest == 0 || time.Since(begun) < wait; tooSoon {
			every.Sleep(cmd.Context(), retryPause)
		}
		if errors.Is(err, api.ErrBusy) { // Too many calls wait already; one that does not wait is answered.
			longest = 0
		}
		if cmd.Context().Err() != nil {
			return failure(exitInterrupted, "",
				"interrupted while waiting: request %d is recorded, and %s %s not applied it yet", asked.ID,
				count(len(last.Waiting), "partition"), plural.Verb(len(last.Waiting), "has", "have"))
		}
	}
	if asked.Changed != nil {
		last.Changed = asked.Changed
	}
	if q.f.format != formatJSON {
		if err := screen.Of(a.Out).Tell(q.done(last)); err != nil {
			return err
		}
	}
	if q.follow != nil && len(q.todo) > 0 && q.f.wait > 0 {
		return a.followAsked(cmd, q, last, limit)
	}
	return a.jsonOnly(q.f.format, last)
}

// followAsked waits for what comes of the messages that a request is about.
func (a *App) followAsked(cmd *cobra.Command, q asking, asked *api.Asked, limit time.Time) error {
	f := q.follow(asked.ID)
	f.limit = limit
	came, err := f.run(cmd.Context(), q.todo)
	if err != nil {
		return err
	}
	report := struct {
		*api.Asked
		Outcome outcome `json:"outcome"`
	}{asked, came}
	if err := a.jsonOnly(q.f.format, report); err != nil {
		return err
	}
	return a.printOutcome(q.group, came, q.f.format)
}

// partitionList names partitions, the first few of many.
func partitionList(ps []int) string {
	var out []string
	for i, p := range ps {
		if i == 8 {
			return strings.Join(append(out, "…"), ", ")
		}
		out = append(out, strconv.Itoa(p))
	}
	return strings.Join(out, ", ")
}

func (a *App) pauseCommand() *cobra.Command {
	var f askFlags
	var reason string
	cmd := &cobra.Command{
		Use:   "pause GROUP",
		Short: "Pause a group or some of its partitions",
		Long: "The call in flight is finished first. A pause is kept with the partition: it survives restarts and changes " +
			"of owner, and\n" +
			"status shows its reason. Messages wait; nothing is lost.",
		Example: "  leasehold pause billing --reason 'database upgrade'\n  leasehold pause billing --partition 3 --reason " +
			"'odd order 1007'",
		Args: cobra.ExactArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(reason) == "" {
				return usage("--reason is missing: say why, for the operator who finds the group paused")
			}
			return a.runAsk(cmd, asking{
				group: args[0], ask: api.Ask{Kind: "pause", Reason: reason}, f: f,
				plan: func(p *api.Asked) string { return "would pause " + count(p.Partitions, "partition") },
				done: func(p *api.Asked) string {
					return fmt.Sprintf("paused %s; resume with `leasehold resume %s`", count(p.Partitions, "partition"), args[0])
				},
			})
		}),
	}
	addAskFlags(cmd, &f)
	cmd.Flags().StringVar(&reason, "reason", "", "why; shown in status")
	return cmd
}

func (a *App) resumeCommand() *cobra.Command {
	var f askFlags
	cmd := &cobra.Command{
		Use:   "resume GROUP",
		Short: "Resume paused or blocked partitions",
		Long: "Ends a pause, whether an operator or the handler asked for it. A partition that is blocked at a message, or " +
			"stalled because the\n" +
			"handler is taken for broken, tries that message again with all its attempts.",
		Example: "  leasehold resume billing\n  leasehold resume billing --partition 3",
		Args:    cobra.ExactArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			return a.runAsk(cmd, asking{
				group: args[0], ask: api.Ask{Kind: "resume"}, f: f,
				plan: func(p *api.Asked) string { return resumedText("would resume ", args[0], p) },
				done: func(p *api.Asked) string { return resumedText("resumed ", args[0], p) },
			})
		}),
	}
	addAskFlags(cmd, &f)
	return cmd
}

// resumedText says for how many partitions a resume changes anything.
func resumedText(verb, group string, p *api.Asked) string {
	switch {
	case p.Changed == nil: // A node of an earlier version does not say.
		return verb + count(p.Partitions, "partition")
	case *p.Changed == 0:
		return fmt.Sprintf("nothing changed: of %s of group %s none is paused, blocked or waiting for its handler",
			count(p.Partitions, "partition"), group)
	}
	return verb + count(*p.Changed, "partition")
}

func (a *App) seekCommand() *cobra.Command {
	var f askFlags
	var to string
	cmd := &cobra.Command{
		Use:   "seek GROUP --to WHERE",
		Short: "Move a group's position: replay messages or skip some",
		Long: "WHERE is earliest, latest, seq:N (the first message to handle), time:RFC3339, or a time back from now like " +
			"-2h or -7d. Before it\n" +
			"does anything it says how many messages would be handled again and how many skipped. Only messages that are " +
			"still\n" +
			"stored can be handled again: those that the topic's `retain` keeps. The call in flight is finished first.",
		Example: "  leasehold seek billing --to -2h --dry-run\n  leasehold seek billing --partition 3 --to seq:1008 --yes  " +
			"   skip message 1007",
		Args: cobra.ExactArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return usage("--to: say where to continue: %s", seekForms)
			}
			if !isSeekTarget(to) {
				return usage("--to: %q is not %s", to, seekForms)
			}
			return a.runAsk(cmd, asking{
				group: args[0], ask: api.Ask{Kind: "seek", To: to}, f: f, plan: seekText,
				question: func(p *api.Asked) string {
					return fmt.Sprintf("Move %s of group %s?", count(p.Partitions, "partition"), args[0])
				},
				done: func(p *api.Asked) string {
					return fmt.Sprintf("%s of group %s: moved to after message %d", count(p.Partitions, "partition"), args[0], p.Seq)
				},
			})
		}),
	}
	addAskFlags(cmd, &f)
	cmd.Flags().StringVar(&to, "to", "", "earliest, latest, seq:N, time:RFC3339, -2h or -7d")
	_ = cmd.RegisterFlagCompletionFunc("to", cobra.FixedCompletions(positions,
		cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
	return cmd
}

// seekForms are the places that seek knows.
const seekForms = "earliest, latest, seq:1234, time:2026-01-02T15:04:05Z, -2h or -7d"

// isSeekTarget reports whether a place can be one. Which sequences there are only the agent knows.
func isSeekTarget(to string) bool {
	if text, ok := strings.CutPrefix(to, "seq:"); ok {
		n, err := strconv.ParseUint(text, 10, 64)
		return err == nil && n > 0
	}
	if text, ok := strings.CutPrefix(to, "time:"); ok {
		_, err := time.Parse(time.RFC3339, text)
		return err == nil
	}
	d, err := duration.Parse(to)
	return to == "earliest" || to == "latest" || err == nil && d < 0
}

func seekText(p *api.Asked) string {
	return fmt.Sprintf("%s would move to after message %d: %s again, %s skipped",
		count(p.Partitions, "partition"), p.Seq, count(int(p.Again), "message"), count(int(p.Skipped), "message"))
}
