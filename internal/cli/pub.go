package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"leasehold/internal/api"
	"leasehold/internal/lines"
	"leasehold/partitioner"
	"leasehold/partitioner/publisher"
)

type pubFlags struct {
	format   string
	key      string
	keyField string
	id       string
	idField  string
	file     string
	headers  []string
	rate     int
	subject  string
	timeout  time.Duration
	login    login
}

func (a *App) pubCommand() *cobra.Command {
	var f pubFlags
	cmd := &cobra.Command{
		Use:   "pub TOPIC [BODY]",
		Short: "Publish one message, or one per line of a file or stdin",
		Long: "Publishes BODY under --key, or every line of --file or stdin under the key that --key-field finds in its " +
			"JSON.\n" +
			"Messages of one key are stored in the order of their lines. Every message is acknowledged by a majority of the\n" +
			"nodes, retried with the same id until then, and counted: stored, duplicate (its id was stored before),\n" +
			"refused, or unknown. After an unknown one nothing more is sent. Run the same command again; with --id-field, " +
			"nothing\n" +
			"is stored twice (within the topic's dedup_window).\n" +
			"Lines are UTF-8; with --key-field or --id-field, each is one JSON value.\n" +
			"Without a quorum it says so and waits until there is one, ^C, or --timeout.\n" +
			"From another machine, --server names a node, and --user or --nkey-file one of its users; no agent is needed " +
			"then.\n" +
			"Exit codes: 0 all are stored, 12 some are, 1 none is, 6 --timeout expired.",
		Example: "  leasehold pub orders --key c-17 '{\"item\": 4}'\n" +
			"  leasehold pub orders --file orders.ndjson --key-field customer.id --id-field event_id\n" +
			"  leasehold pub orders --key c-17 'hello' --server nats://10.0.0.11:4222 --nkey-file scanner.nk --tls-ca " +
			"plant-7-ca.pem\n" +
			"  tail -f log.ndjson | leasehold pub events --key-field host --rate 500",
		Args: cobra.RangeArgs(1, 2),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			return a.runPub(cmd, f, args)
		}),
	}
	addOutput(cmd, &f.format)
	flags := cmd.Flags()
	flags.StringVar(&f.key, "key", "", "key of the message, or of every line")
	flags.StringVar(&f.keyField, "key-field", "", "field of each line's JSON that holds its key, like customer.id")
	flags.StringVar(&f.id, "id", "", "message id of BODY: a second message with it is not stored again")
	flags.StringVar(&f.idField, "id-field", "", "field of each line's JSON that holds its message id")
	flags.StringVar(&f.file, "file", "", "file with one message per line; - is stdin")
	flags.StringArrayVar(&f.headers, "header", nil, "header of every message, name=value; can be given several times")
	numberVar(cmd, &f.rate, "rate", 0, 0, "maximum messages per second (0: no limit)")
	flags.StringVar(&f.subject, "subject", "",
		"subject of the topic, if no agent can be asked and it is not TOPIC.*; its wildcard is the key")
	limitVar(cmd, &f.timeout, "timeout", 0, "give up after this long, with exit code 6 (default: wait)")
	f.login.addFlags(cmd)
	return cmd
}

func (a *App) runPub(cmd *cobra.Command, f pubFlags, args []string) error {
	if f.timeout > 0 {
		ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
		defer cancel()
		cmd.SetContext(ctx)
	}
	input, err := a.pubInput(f, args[1:])
	if err != nil {
		return err
	}
	defer input.close()
	header, err := parseHeaders(f.headers)
	if err != nil {
		return err
	}
	info, trusted, err := a.askTopic(cmd, f, args[0])
	if err != nil {
		return err
	}
	nc, err := a.connect(cmd.Context(), f.login, info, trusted)
	if err != nil {
		return err
	}
	defer nc.Close()
	tally, err := a.publishAll(cmd.Context(), nc, pubJob{
		topic: topicOf(info), input: input, header: header, rate: f.rate, timeout: f.timeout, agent: a.agentOf(cmd, info),
		noQuorum: info.NoQuorum,
	})
	if err != nil {
		return err
	}
	return a.reportPub(tally, f.format)
}

// agentOf is the agent that has told about the topic, nil if none has.
func (a *App) agentOf(cmd *cobra.Command, info api.TopicInfo) *api.Client {
	if info.Server == "" {
		return nil
	}
	client, err := a.client(cmd)
	if err != nil {
		return nil
	}
	return client
}

func topicOf(info api.TopicInfo) partitioner.Topic {
	return partitioner.Topic{
		Name: info.Name, Partitions: info.Partitions, Subject: info.Subject, Key: info.Key,
		DedupWindow: time.Duration(info.DedupWindowMS) * time.Millisecond,
	}
}

// askTopic asks an agent about the topic. Where NATS is all that can be reached of a node, the topic is assumed to be
// what topics are by default, or what --subject says; the broker refuses what does not fit.
func (a *App) askTopic(cmd *cobra.Command, f pubFlags, name string) (info api.TopicInfo, trusted bool, err error) {
	if f.subject != "" {
		if f.login.server == "" {
			return info, false, usage("--subject is for --server; an agent knows the topic's subject")
		}
		info, err = assumedTopic(name, f.subject)
		return info, false, err
	}
	client, err := a.client(cmd)
	if err == nil {
		info, err = client.Topic(cmd.Context(), name)
	}
	if err == nil {
		info.Server = reachable(info.Server, client.Target())
		return info, onThisMachine(client.Target()), nil
	}
	if f.login.server == "" || errors.Is(err, api.ErrNotFound) || cmd.Context().Err() != nil {
		return info, false, err
	}
	info, err = assumedTopic(name, "")
	return info, false, err
}

func assumedTopic(name, subject string) (api.TopicInfo, error) {
	t := partitioner.Topic{Name: name, Partitions: 1, Subject: subject}.WithDefaults()
	if err := t.Validate(); err != nil {
		return api.TopicInfo{}, &Error{Code: exitUsage, Err: err}
	}
	if n := strings.Count(t.Subject, "*"); n != 1 {
		return api.TopicInfo{}, usage("--subject %q has %d wildcards; here it must have one, the key", t.Subject, n)
	}
	return api.TopicInfo{Name: t.Name, Partitions: t.Partitions, Subject: t.Subject, Key: t.Key,
		DedupWindowMS: t.DedupWindow.Milliseconds()}, nil
}

func parseHeaders(list []string) (nats.Header, error) {
	header := nats.Header{}
	for _, entry := range list {
		name, value, found := strings.Cut(entry, "=")
		if !found || name == "" {
			return nil, usage("--header %q must be name=value", entry)
		}
		header[name] = append(header[name], value)
	}
	return header, nil
}

// pubJob is what to publish where.
type pubJob struct {
	topic  partitioner.Topic
	input  *pubInput
	header nats.Header
	rate   int

	timeout  time.Duration // --timeout, which ctx has
	agent    *api.Client   // nil if none is asked
	noQuorum string        // what the agent said when it was asked about the topic
}

// These bound the wait for answers after publishing was cut short, the latter if none has come for a while.
const (
	settleLimit = 10 * time.Second
	settleShort = 500 * time.Millisecond
)

// publishAll publishes until the input ends, the user interrupts, or a result is unknown: to go on with the same key
// could overtake a message that may yet have to be sent again.
func (a *App) publishAll(ctx context.Context, nc *nats.Conn, job pubJob) (*pubTally, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	publisher, err := publisher.New(nc, job.topic, publisher.Options{Failover: true})
	if err != nil {
		return nil, err
	}
	tally := newTally(stop)
	bar := a.pubProgress(job.input)
	watch := a.newAckWatch(job.agent, job.topic.Name, tally)
	if job.noQuorum != "" {
		watch.wait(job.noQuorum)
	}
	watching, endWatch := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { watch.run(watching) })
	loop := pubLoop{job: job, publisher: publisher, tally: tally, limit: limiter(job.rate), progress: bar, watch: watch}
	err = loop.run(ctx)
	settle(ctx, publisher, watch)
	endWatch()
	group.Wait()
	publisher.Close() //nolint:contextcheck // It has nothing to wait for but callbacks, which must not be left out.
	bar.finish()
	tally.stopped(ctx, err, job.timeout)
	return tally, ignoreStop(ctx, err)
}

// settle waits for the results that are out: as long as it takes (the publisher ends its retries by itself), or only a
// moment once publishing was cut short. What has no result then gets one from Close.
func settle(ctx context.Context, publisher *publisher.Publisher, watch *ackWatch) {
	if err := publisher.Flush(ctx); err == nil || ctx.Err() == nil {
		return
	}
	limit := settleLimit
	if watch.stuck.Load() || timedOut(ctx) { // Nobody acknowledges anything, or nobody wants to wait.
		limit = settleShort
	}
	moment, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	_ = publisher.Flush(moment)
}

// ignoreStop leaves errors of the input; why publishing was stopped is in the tally.
func ignoreStop(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func limiter(perSecond int) *rate.Limiter {
	if perSecond <= 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, perSecond/20))
}

// pubLoop reads and publishes.
type pubLoop struct {
	job       pubJob
	publisher *publisher.Publisher
	tally     *pubTally
	limit     *rate.Limiter
	progress  *pubProgress
	watch     *ackWatch
}

func (l *pubLoop) run(ctx context.Context) error {
	for {
		if err := l.limit.Wait(ctx); err != nil {
			return err
		}
		r, err := l.job.input.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read messages: %w", err)
		}
		if err := l.publish(ctx, r); err != nil {
			return err
		}
		l.progress.show(l.job.input.read(), l.tally)
	}
}

func (l *pubLoop) publish(ctx context.Context, r lines.Record) error {
	l.tally.taken()
	if r.Err != nil {
		l.tally.refuse(r.Line, r.Err)
		return nil
	}
	m := publisher.Message{Key: r.Key, ID: r.ID, Headers: l.job.header, Data: r.Data}
	err := l.watch.await(ctx)
	if err != nil {
		l.tally.notSent()
		return err
	}
	err = l.publisher.Publish(ctx, m, func(result publisher.Result) { l.tally.add(r.Line, result) })
	if err != nil {
		l.tally.notSent()
	}
	return err
}

// pubInput opens what there is to publish.
func (a *App) pubInput(f pubFlags, body []string) (*pubInput, error) {
	switch {
	case len(body) == 1 && f.key == "" && f.keyField == "":
		return nil, usage("the message needs a key, which must not be empty: give --key; messages of one key stay in order")
	case len(body) == 1 && (f.file != "" || f.keyField != "" || f.idField != ""):
		return nil, usage("BODY is one message; --file, --key-field and --id-field are for many")
	case partitioner.IsExactKeyName(f.key):
		return nil, notPublished(f.key)
	case f.key != "" && f.keyField != "":
		return nil, usage("--key and --key-field exclude each other")
	case !utf8.ValidString(f.key + f.id):
		return nil, usage("--key and --id must be UTF-8")
	case len(body) == 1:
		return oneMessage(f.key, f.id, body[0]), nil
	case f.id != "":
		return nil, usage("--id is for one BODY; for many messages use --id-field")
	case f.key == "" && f.keyField == "":
		return nil, usage("every message needs a key: give --key-field (or --key, if all have the same)")
	}
	in, size, err := a.openLines(f.file)
	if err != nil {
		return nil, err
	}
	return newLines(in, size, f), nil
}

// openLines opens a file or stdin; size is 0 if it is not known.
func (a *App) openLines(file string) (io.Reader, int64, error) {
	if file == "" || file == "-" {
		if file == "" && isTerminal(a.In) {
			return nil, 0, usage("nothing to publish: give BODY, --file, or pipe one message per line into it")
		}
		return a.In, 0, nil
	}
	in, err := os.Open(file)
	if err != nil {
		return nil, 0, &Error{Code: exitUsage, Err: fmt.Errorf("read messages: %w", err)}
	}
	info, err := in.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("read messages: %w", err)
	}
	return in, info.Size(), nil
}
