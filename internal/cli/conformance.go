package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"leasehold/internal/bytesize"
	"leasehold/internal/config"
	"leasehold/internal/conformance"
	"leasehold/worker"
	"leasehold/worker/handler"
	"leasehold/worker/handler/subprocess"
	"leasehold/worker/handler/webhook"
)

// conformanceFlags are the flags of `handler conformance`.
type conformanceFlags struct {
	group      string
	url        string
	secrets    []string
	key        string
	data       []string
	files      []string
	timeout    time.Duration
	maxPayload bytesize.Size
	verbose    bool
	format     string
}

// conformanceGroup is the group's name that a handler is told. It is never the group's own: a handler that keeps its
// progress by group, as it should, must not take the test messages for that group's progress.
const conformanceGroup = "conformance"

func (a *App) conformanceCommand() *cobra.Command {
	f := conformanceFlags{maxPayload: config.DefaultConfig().Server.MaxPayload}
	cmd := &cobra.Command{
		Use:   "conformance (--group NAME | --url URL | -- COMMAND [ARG]...)",
		Short: "Check a handler against the protocol",
		Long: "Starts the handler here, without an agent, and plays the part of a node: messages, repeats, retries, two " +
			"partitions at\n" +
			"once, huge and binary payloads, fields of a later version, hand-overs, a late call of a former owner, kill -9 " +
			"and stop.\n" +
			"Reports what the handler does right (✓), wrong (✗) and could do better (!), with advice. Exit code 1 if anything " +
			"is wrong.\n\n" +
			"The handler really handles the messages: let it write to a test store. It gets the group \"" + conformanceGroup +
			"\", partitions\n" +
			"0 and 1, and sequences and epochs that grow from run to run. The checks cover more if you give it messages that " +
			"it accepts\n" +
			"(--data, --message). For a webhook (--url, or a group of kind http) and for kind exec only the calls are checked.",
		Example: "  leasehold handler conformance -- python3 examples/minimal.py\n" +
			"  leasehold handler conformance --url http://127.0.0.1:8080/orders --secret-file ./webhook_secret\n" +
			"  leasehold handler conformance --group billing --config ./config.toml --message order.json",
		RunE: action(func(cmd *cobra.Command, args []string) error {
			h, o, err := a.conformanceOptions(cmd, f, args)
			if err != nil {
				return err
			}
			return a.runConformance(cmd.Context(), f, h, o)
		}),
	}
	addOutput(cmd, &f.format)
	flags := cmd.Flags()
	flags.StringVar(&f.group, "group", "", "check the handler of this group of the config")
	_ = cmd.RegisterFlagCompletionFunc("group", a.completeConfigGroup) // It fails only for a flag that is not there.
	flags.StringVar(&f.url, "url", "", "check the webhook at this URL")
	flags.StringArrayVar(&f.secrets, "secret-file", nil, "with --url: file with a secret that signs the requests")
	flags.StringVar(&f.key, "key", "c-17", "key of the messages")
	flags.StringArrayVar(&f.data, "data", nil, "payload of the messages; several are used in turn")
	flags.StringArrayVar(&f.files, "message", nil,
		"file with the payload of the messages; several are used in turn; - is stdin")
	limitVar(cmd, &f.timeout, "timeout", 0, "how long a call may take (default: the group's timeout, else 10s)")
	flags.TextVar(&f.maxPayload, "max-payload", f.maxPayload,
		"`size` of the huge message; with --group the config's server.max_payload, unless given")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "show what the handler logs")
	return cmd
}

// conformanceOptions says what to check, and how.
func (a *App) conformanceOptions(cmd *cobra.Command, f conformanceFlags,
	args []string) (h worker.HandlerConfig, o conformance.Options, err error) {
	o = conformance.Options{Timeout: 10 * time.Second, MaxPayload: int(f.maxPayload), Key: f.key}
	o.Env = handler.Env{App: "leasehold/" + version, Node: "n1", Group: conformanceGroup, Topic: "orders"}
	if h, err = a.whatToCheck(cmd, f, args, &o); err != nil {
		return h, o, err
	}
	if f.maxPayload < 1 || f.maxPayload > 8*bytesize.MiB {
		return h, o, usage("--max-payload %s: must be from 1B to 8MiB, which is the most that a config allows", f.maxPayload)
	}
	if f.timeout > 0 {
		o.Timeout = f.timeout
	}
	if f.verbose {
		o.Env.Logger = hclog.New(&hclog.LoggerOptions{Name: "leasehold", Output: a.Err, Level: hclog.Info,
			TimeFormat: "15:04:05.000"})
	}
	o.Payloads, err = a.conformancePayloads(f)
	return h, o, err
}

// whatToCheck is a group's handler, a webhook, or a command.
func (a *App) whatToCheck(cmd *cobra.Command, f conformanceFlags, args []string,
	o *conformance.Options) (h worker.HandlerConfig, err error) {
	switch {
	case f.group != "" && f.url != "" || f.group+f.url != "" && len(args) > 0:
		return h, usage("--group, --url and a command: give one of them")
	case len(f.secrets) > 0 && f.url == "":
		return h, usage("--secret-file is for --url; a group has its own secret_files")
	case f.url != "":
		h = worker.HandlerConfig{Kind: webhook.Kind.Name, Config: webhook.Config{URL: f.url, SecretFiles: f.secrets}}
	case f.group != "":
		return a.groupToCheck(cmd, f, o)
	case len(args) > 0:
		h = worker.HandlerConfig{Kind: subprocess.Kind.Name, Config: subprocess.Config{Command: args}}
	default:
		return h, failure(exitUsage, "give a command, like `-- python3 handler.py`, or --group NAME, or --url URL",
			"no handler to check")
	}
	return h, nil
}

// groupToCheck takes over what the config says of a group.
func (a *App) groupToCheck(cmd *cobra.Command, f conformanceFlags,
	o *conformance.Options) (h worker.HandlerConfig, err error) {
	c, err := config.Load(a.findConfig(cmd))
	if err != nil {
		return h, a.configError(err)
	}
	g, err := groupOf(c, f.group)
	if err != nil {
		return h, err
	}
	if kind, _ := worker.KindNamed(g.Handler.Kind); surveys[kind.Conformance] == nil {
		return h, usage("group %s has a handler of kind %q: there are checks for %s", g.Name, g.Handler.Kind,
			strings.Join(checkedKinds(), ", "))
	}
	o.Timeout, o.Env.Topic, o.Env.Node = g.Timeout, g.Topic, c.Node.Name
	if !cmd.Flag("max-payload").Changed {
		o.MaxPayload = int(c.Server.MaxPayload)
	}
	return g.Handler, nil
}

// conformancePayloads reads the messages' payloads, or makes one up.
func (a *App) conformancePayloads(f conformanceFlags) ([][]byte, error) {
	var all [][]byte
	for _, text := range f.data {
		all = append(all, []byte(text))
	}
	for _, name := range f.files {
		text, err := a.readFile(name)
		if err != nil {
			return nil, &Error{Code: exitUsage, Err: fmt.Errorf("read the message: %w", err)}
		}
		all = append(all, text)
	}
	if len(all) == 0 {
		all = append(all, []byte(`{"text":"a test message"}`))
	}
	return all, nil
}

// surveys check handlers, as their kind can be checked.
var surveys = map[handler.Conformance]func(context.Context, worker.HandlerConfig,
	conformance.Options) (*conformance.Report, error){
	handler.ConformanceProtocol: func(ctx context.Context, h worker.HandlerConfig,
		o conformance.Options) (*conformance.Report, error) {
		o.Handler = h.Config.(subprocess.Config)
		return conformance.Subprocess(ctx, o)
	},
	handler.ConformanceCalls: func(ctx context.Context, h worker.HandlerConfig,
		o conformance.Options) (*conformance.Report, error) {
		kind, _ := worker.KindNamed(h.Kind)
		handler, err := kind.New(h.Config, o.Env)
		if err != nil {
			return nil, &Error{Code: exitUsage, Err: err}
		}
		return conformance.Calls(ctx, handler, o)
	},
}

// checkedKinds lists the kinds that can be checked.
func checkedKinds() []string {
	var names []string
	for _, name := range worker.Kinds() {
		if kind, _ := worker.KindNamed(name); surveys[kind.Conformance] != nil {
			names = append(names, name)
		}
	}
	return slices.Sorted(slices.Values(names))
}

func (a *App) runConformance(ctx context.Context, f conformanceFlags, h worker.HandlerConfig,
	o conformance.Options) error {
	if f.format != formatJSON {
		o.Found = a.printFinding
	}
	kind, _ := worker.KindNamed(h.Kind)
	report, err := surveys[kind.Conformance](ctx, h, o)
	if err != nil {
		return err
	}
	if f.format == formatJSON {
		if err := printJSON(a.Out, report); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.Out, "%d right, %d wrong, %d could be better\n", report.Right, report.Wrong, report.Better)
	}
	if report.OK {
		return nil
	}
	return &Error{Code: exitFailed, Err: errors.New("the handler breaks the protocol"), Shown: true}
}

var verdictMarks = map[conformance.Verdict]string{conformance.Right: "✓", conformance.Wrong: "✗",
	conformance.Better: "!"}

func (a *App) printFinding(c conformance.Check) {
	fmt.Fprintf(a.Out, "%s %s: %s\n", verdictMarks[c.Verdict], c.Name, c.Detail)
	if c.Advice != "" {
		fmt.Fprintf(a.Out, "    → %s\n", c.Advice)
	}
}
