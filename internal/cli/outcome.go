package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"leasehold/internal/api"
	"leasehold/internal/plural"
	"leasehold/internal/printable"
	"leasehold/partitioner"
)

// outcomeEvery is how often a command looks what has come of messages.
const outcomeEvery = 250 * time.Millisecond

// fate is what has come of a message that a group was given again.
type fate struct {
	Partition int    `json:"partition"`
	Seq       uint64 `json:"seq"`
	Key       string `json:"key"`
	Number    uint64 `json:"number,omitempty"` // Of its dead letter.
	Kind      string `json:"kind,omitempty"`
	Error     string `json:"error,omitempty"` // Why it failed again, or what its partition waits for.
}

// outcome is what has come of all of them within the time that the command waits.
type outcome struct {
	Handled int    `json:"handled"`
	Failed  []fate `json:"failed"`
	Waiting []fate `json:"waiting"`
}

// follow looks what a group makes of messages.
type follow struct {
	client *api.Client
	group  string
	limit  time.Time
	// passed says which of the partitions have been through with their messages, and why the others have not.
	passed func(ctx context.Context, todo []fate) (ready []fate, waiting []fate, err error)
}

// run waits until every message was handled or has failed, or the time is over. A node that does not answer is asked
// again.
func (f follow) run(ctx context.Context, todo []fate) (outcome, error) {
	out := outcome{Failed: []fate{}, Waiting: []fate{}}
	tick := time.NewTicker(outcomeEvery)
	defer tick.Stop()
	for {
		round, err := f.poll(ctx, todo)
		late := time.Now().After(f.limit)
		switch {
		case err == nil:
			out.Handled, out.Failed, todo = out.Handled+round.Handled, append(out.Failed, round.Failed...), round.Waiting
		case late && ctx.Err() == nil:
			return out, err
		}
		if len(todo) == 0 || late {
			out.Waiting = append(out.Waiting, todo...)
			return out, nil
		}
		select {
		case <-ctx.Done():
			return out, failure(exitInterrupted, "",
				"interrupted while waiting for the outcome; `leasehold dlq list %s` shows what failed again", f.group)
		case <-tick.C:
		}
	}
}

// poll sorts messages by what has come of them so far.
func (f follow) poll(ctx context.Context, todo []fate) (round outcome, err error) {
	ready, waiting, err := f.passed(ctx, todo)
	for i := 0; err == nil && i < len(ready); i++ {
		err = f.judge(ctx, ready[i], &round)
	}
	round.Waiting = waiting
	return round, err
}

// judge tells a message that was handled from one that is a dead letter.
func (f follow) judge(ctx context.Context, m fate, out *outcome) error {
	page, err := f.client.DeadLetters(ctx, f.group, api.LetterFilter{Partition: &m.Partition, Key: exactName(m.Key),
		Seq: m.Seq})
	if err != nil {
		return err
	}
	if len(page.Letters) == 0 {
		out.Handled++
		return nil
	}
	l := page.Letters[0]
	m.Number, m.Kind = l.Number, l.Kind
	if m.Error == "" || l.Kind == string(partitioner.Dead) {
		m.Error = l.Error
	}
	out.Failed = append(out.Failed, m)
	return nil
}

// requeuedPassed sorts requeued messages by whether their partition has come past them.
func requeuedPassed(client *api.Client, group string) func(context.Context, []fate) ([]fate, []fate, error) {
	return func(ctx context.Context, todo []fate) (ready, waiting []fate, err error) {
		partitions, err := partitionsOf(ctx, client, group)
		if err != nil {
			return nil, nil, err
		}
		for _, m := range todo {
			p, known := partitions[m.Partition]
			if known && p.Done >= m.Seq {
				ready = append(ready, m)
				continue
			}
			m.Error = standing(p)
			waiting = append(waiting, m)
		}
		return ready, waiting, nil
	}
}

// releasedPassed sorts released messages by whether their partition is through with what was released.
func releasedPassed(client *api.Client, group string,
	request uint64) func(context.Context, []fate) ([]fate, []fate, error) {
	return func(ctx context.Context, todo []fate) (ready, waiting []fate, err error) {
		asked, err := client.Asked(ctx, group, request, 0)
		if err != nil {
			return nil, nil, err
		}
		partitions, err := partitionsOf(ctx, client, group)
		if err != nil {
			return nil, nil, err
		}
		for _, m := range todo {
			p := partitions[m.Partition]
			if slices.Contains(asked.Waiting, m.Partition) || slices.Contains(asked.Releasing, m.Partition) {
				m.Error = standing(p)
				waiting = append(waiting, m)
				continue
			}
			m.Error = p.Release
			ready = append(ready, m)
		}
		return ready, waiting, nil
	}
}

func partitionsOf(ctx context.Context, client *api.Client, group string) (map[int]api.Partition, error) {
	status, err := client.Status(ctx)
	if err != nil {
		return nil, err
	}
	partitions := map[int]api.Partition{}
	for _, g := range status.Groups {
		for _, p := range g.Partitions {
			if g.Name == group {
				partitions[p.Partition] = p
			}
		}
	}
	return partitions, nil
}

// standing says why a partition is not further.
func standing(p api.Partition) string {
	text := "partition is " + p.State
	switch {
	case p.Paused != "":
		return text + ": " + p.Paused
	case p.Error != "":
		return text + ": " + p.Error
	}
	return text
}

// maxFates is how many messages a command names that were not handled.
const maxFates = 10

// printOutcome says what came of the messages, and turns it into the command's end.
func (a *App) printOutcome(group string, out outcome, format string) error {
	if format != formatJSON {
		var parts []string
		for _, part := range []struct {
			n    int
			what string
		}{{out.Handled, "handled"}, {len(out.Failed), "failed again"}, {len(out.Waiting), "still waiting"}} {
			if part.n > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", part.n, part.what))
			}
		}
		fmt.Fprintln(a.Out, "outcome: "+strings.Join(parts, ", "))
		a.printFates(out)
	}
	switch {
	case len(out.Waiting) > 0:
		return failure(exitTimeout, "`leasehold status --partitions` shows where they stand; --wait waits longer",
			"%s %s not handled yet", count(len(out.Waiting), "message"), plural.Verb(len(out.Waiting), "is", "are"))
	case len(out.Failed) == 0:
		return nil
	}
	code := exitPartly
	if out.Handled == 0 {
		code = exitFailed
	}
	return failure(code, "`leasehold dlq list "+group+"` shows the dead letters", "%s failed again",
		count(len(out.Failed), "message"))
}

func (a *App) printFates(out outcome) {
	for i, m := range slices.Concat(out.Failed, out.Waiting) {
		if i == maxFates {
			fmt.Fprintf(a.Err, "… and %d more\n", len(out.Failed)+len(out.Waiting)-maxFates)
			return
		}
		what := fmt.Sprintf("dead letter %d", m.Number)
		switch {
		case m.Number == 0:
			what = "waiting"
		case m.Kind == string(partitioner.Parked):
			what = "parked as " + what
		}
		fmt.Fprintf(a.Err, "message %d of key %s in partition %d: %s: %s\n", m.Seq,
			printable.Line(partitioner.KeyName(m.Key)), m.Partition, what, printable.Line(m.Error))
	}
}
