package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/cli/screen"
	"leasehold/internal/config"
	"leasehold/internal/jsondata"
	"leasehold/internal/printable"
	"leasehold/partitioner"
	"leasehold/partitioner/publisher"
	"leasehold/worker"
	"leasehold/worker/handler"
)

type trialFlags struct {
	format  string
	file    string
	data    string
	seq     uint64
	key     string
	subject string
	attempt int
	epoch   uint64
}

func (a *App) handlerTestCommand() *cobra.Command {
	var f trialFlags
	cmd := &cobra.Command{
		Use:   "test GROUP (--data TEXT | --message FILE | --seq N)",
		Short: "Call a group's handler once and see how its answer is read",
		Long: "Runs the group's handler from the config, in this process and not in the agent, calls it once, and shows " +
			"how its answer\n" +
			"is interpreted and what would follow. No position of the group moves. But the call is real: the handler has its " +
			"usual\n" +
			"effects. It runs as you, not as the agent's user. Its stderr is shown on stderr. Kind file writes to a " +
			"temporary\n" +
			"directory; kind nats cannot be tested, because its requests need the node's own connection. Exit code 0 if the " +
			"answer\n" +
			"was ok, otherwise 1.",
		Example: "  leasehold handler test billing --data '{\"total\": 12}' --key c-17\n  leasehold handler test billing " +
			"--message order.json --attempt 8\n" +
			"  leasehold handler test billing --seq 1007",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeConfigGroup,
		RunE: action(func(cmd *cobra.Command, args []string) error {
			return a.runHandlerTest(cmd, args[0], f)
		}),
	}
	addOutput(cmd, &f.format)
	flags := cmd.Flags()
	flags.StringVar(&f.data, "data", "", "payload of a made-up message")
	flags.StringVar(&f.file, "message", "", "file with the payload of a made-up message; - is stdin")
	flags.Uint64Var(&f.seq, "seq", 0, "sequence of a stored message of the group's topic, fetched from the agent")
	flags.StringVar(&f.key, "key", "", "key of a made-up message (default \""+defaultKey+"\")")
	flags.StringVar(&f.subject, "subject", "", "full subject instead of --key, for a topic whose subject has other tokens")
	numberVar(cmd, &f.attempt, "attempt", 1, 1, "attempt number of the call")
	flags.Uint64Var(&f.epoch, "epoch", 1, "epoch of the call; a store that keeps the highest one refuses a lower one")
	cmd.MarkFlagsOneRequired("data", "message", "seq")
	cmd.MarkFlagsMutuallyExclusive("data", "message", "seq")
	cmd.MarkFlagsMutuallyExclusive("key", "subject", "seq")
	return cmd
}

// trialReport is what came of the call: `handler test -o json`.
type trialReport struct {
	V           int         `json:"v"`
	Group       string      `json:"group"`
	Kind        string      `json:"kind"`
	Message     api.Message `json:"message"`
	Epoch       uint64      `json:"epoch"`
	Attempt     int         `json:"attempt"`
	MaxAttempts int         `json:"max_attempts"`
	Status      string      `json:"status"`
	Reason      string      `json:"reason"`
	AfterMS     int64       `json:"after_ms"` // Wait that the handler asked for; 0: none.
	Next        string      `json:"next"`     // What a node would do then.
	ReadyMS     float64     `json:"ready_ms"` // Until the handler could be called.
	TookMS      float64     `json:"took_ms"`
}

func (a *App) runHandlerTest(cmd *cobra.Command, name string, f trialFlags) error {
	c, err := config.Load(a.findConfig(cmd))
	if err != nil {
		return a.configError(err)
	}
	group, err := groupOf(c, name)
	if err != nil {
		return err
	}
	stored, err := a.trialMessage(cmd, c, group, f)
	if err != nil {
		return err
	}
	trial, err := a.try(cmd.Context(), c, group, callOf(stored, group, f, c.Node.Name))
	if err != nil {
		return err
	}
	r := trial.Result
	report := trialReport{
		V: api.Version, Group: name, Kind: group.Handler.Kind, Message: *stored, Epoch: f.epoch, Attempt: f.attempt,
		MaxAttempts: group.MaxAttempts,
		Status:      string(r.Status), Reason: r.Reason, AfterMS: r.After.Milliseconds(),
		Next:    group.Policy().Follows(r, f.attempt),
		ReadyMS: milliseconds(trial.Ready), TookMS: milliseconds(trial.Took),
	}
	if err := a.printTrial(report, f.format); err != nil {
		return err
	}
	if r.Status != handler.OK {
		return &Error{Code: exitFailed, Err: errors.New("the answer was " + string(r.Status)), Shown: true}
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func groupOf(c *config.Config, name string) (worker.Config, error) {
	for _, g := range c.Groups {
		if g.Name == name {
			return g, nil
		}
	}
	return worker.Config{}, failure(exitNotFound, "`leasehold config validate` checks the file",
		"there is no group %q in %s", name, c.Path())
}

// trialMessage is the message to call the handler with.
func (a *App) trialMessage(cmd *cobra.Command, c *config.Config, group worker.Config,
	f trialFlags) (*api.Message, error) {
	if cmd.Flags().Changed("seq") {
		client, err := a.client(cmd)
		if err != nil {
			return nil, err
		}
		return client.Message(cmd.Context(), group.Topic, f.seq)
	}
	data := []byte(f.data)
	if cmd.Flags().Changed("message") {
		var err error
		if data, err = a.readFile(f.file); err != nil {
			return nil, &Error{Code: exitUsage, Err: fmt.Errorf("read the message: %w", err)}
		}
	}
	topic, _ := c.Topic(group.Topic) // A config whose group has no topic is refused.
	return madeUp(topic, publisher.Message{Key: f.key, Subject: f.subject, Data: data})
}

func (a *App) readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(a.In)
	}
	return os.ReadFile(name)
}

// defaultKey is the key of a made-up message if nobody gives one.
const defaultKey = "test"

// madeUp is a message that was never stored, with the first sequence there can be.
func madeUp(t partitioner.Topic, m publisher.Message) (*api.Message, error) {
	if m.Key == "" && m.Subject == "" {
		m.Key = defaultKey
	}
	if partitioner.IsExactKeyName(m.Key) {
		return nil, notPublished(m.Key)
	}
	place, err := m.Check(t)
	if err != nil {
		return nil, usage("%s (--key, --subject)", err)
	}
	id := fmt.Sprintf("%s/%d/1", t.Name, place.Partition)
	return &api.Message{
		ID: id, Topic: t.Name, Partition: place.Partition, Seq: 1, Key: place.Key, Subject: place.Subject, IdempotencyKey: id,
		Time: time.Now().UTC().Format(time.RFC3339Nano), Headers: map[string][]string{}, Payload: jsondata.New(m.Data),
	}, nil
}

// callOf is the call that a lane would make for a message.
func callOf(m *api.Message, group worker.Config, f trialFlags, node string) *handler.Message {
	published, _ := time.Parse(time.RFC3339Nano, m.Time) // Ours, and the agent's.
	return &handler.Message{
		ID: m.ID, IdempotencyKey: m.IdempotencyKey, Topic: m.Topic, Group: group.Name, Node: node,
		Partition: m.Partition, Seq: m.Seq, Epoch: f.epoch, Attempt: f.attempt, MaxAttempts: group.MaxAttempts,
		Key: m.Key, Subject: m.Subject, Timeout: group.Timeout, Published: published,
		Headers: m.Headers, Traceparent: m.Traceparent, Data: m.Bytes(),
	}
}

// try builds the group's handler, calls it once and stops it.
func (a *App) try(ctx context.Context, c *config.Config, group worker.Config,
	m *handler.Message) (handler.Trial, error) {
	switch needs := group.Handler.Resources(); {
	case needs.Service:
		return handler.Trial{}, failure(exitUsage, "publish a message, and follow it with `leasehold explain`",
			"group %q: a handler of kind %s cannot be tested so: its requests need the node's own connection", group.Name,
			group.Handler.Kind)
	case needs.Directory != "":
		dir, err := os.MkdirTemp("", "leasehold-handler-test-*")
		if err != nil {
			return handler.Trial{}, err
		}
		defer os.RemoveAll(dir)
		// A line of ours in the group's own file would make it skip messages.
		group.Handler = group.Handler.WithPaths(func(name string) string { return name }, func(string) string { return dir })
	}
	h, err := group.NewHandler(handler.Env{
		App: "leasehold/" + version, Node: c.Node.Name, Group: group.Name, Topic: group.Topic,
		Logger: newLogger(c.Log, a.Err),
	})
	if err != nil {
		return handler.Trial{}, &Error{Code: exitUsage, Err: err}
	}
	return handler.CallOnce(ctx, h, m), nil
}

func (a *App) printTrial(r trialReport, format string) error {
	if format == formatJSON {
		return printJSON(a.Out, r)
	}
	m := r.Message
	answer := r.Status
	if r.Reason != "" {
		answer += ": " + printable.Line(r.Reason)
	}
	if r.AfterMS > 0 {
		answer += fmt.Sprintf(" (asks to wait %v)", time.Duration(r.AfterMS)*time.Millisecond)
	}
	payload := fmt.Sprintf("%s: %s", humanize.IBytes(uint64(len(m.Bytes()))), payloadText(&m))
	for _, line := range [][2]string{
		{"message", fmt.Sprintf("%s, key %s, attempt %d of %d, epoch %d", m.ID, printable.Line(partitioner.KeyName(m.Key)),
			r.Attempt, r.MaxAttempts, r.Epoch)},
		{"payload", payload},
		{"answer", answer},
		{"next", r.Next},
		{"took", fmt.Sprintf("%.1f ms, after %.1f ms until the %s handler was ready", r.TookMS, r.ReadyMS, r.Kind)},
	} {
		if err := screen.Of(a.Out).Fit(fmt.Sprintf("%-8s %s", line[0], line[1])); err != nil {
			return err
		}
	}
	return nil
}
