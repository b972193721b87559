package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/partitioner"
)

type tapFlags struct {
	format    string
	partition int
	key       string
	last      int
	fromSeq   uint64
	since     time.Duration
	follow    bool
}

func (a *App) tapCommand() *cobra.Command {
	var f tapFlags
	cmd := &cobra.Command{
		Use:   "tap TOPIC",
		Short: "Look at a topic's messages without consuming them",
		Long: "Shows stored messages as they go by, the last 10 if nothing says where to begin. No group notices. On a terminal a\n" +
			"line a message; piped, or with -o json, the whole message as one JSON object a line, as a handler gets it but for\n" +
			"what depends on who handles it. ^C ends --follow with code 0.",
		Example: "  leasehold tap orders --follow\n  leasehold tap orders --key c-17 --last 3\n" +
			"  leasehold tap orders --since 10m | jq -r .data\n  leasehold tap orders --partition 3 --from-seq 1007 -o json",
		Args: cobra.ExactArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			return a.runTap(cmd, args[0], f)
		}),
	}
	addOutput(cmd, &f.format)
	flags := cmd.Flags()
	flags.IntVar(&f.partition, "partition", 0, "only messages of this partition")
	flags.StringVar(&f.key, "key", "", "only messages of this key: "+keyForms)
	flags.IntVar(&f.last, "last", api.DefaultLast, "begin with the last so many messages")
	flags.Uint64Var(&f.fromSeq, "from-seq", 0, "begin at this sequence")
	flags.DurationVar(&f.since, "since", 0, "begin with what was stored this long ago, like 10m")
	flags.BoolVarP(&f.follow, "follow", "f", false, "go on with new messages as they come")
	cmd.MarkFlagsMutuallyExclusive("last", "from-seq", "since")
	cmd.MarkFlagsMutuallyExclusive("partition", "key")
	return cmd
}

func (f tapFlags) options(cmd *cobra.Command) (api.TapOptions, error) {
	o := api.TapOptions{Key: f.key, FromSeq: f.fromSeq, Since: f.since, Last: f.last, Follow: f.follow}
	given := cmd.Flags().Changed
	switch {
	case given("key") && f.key == "":
		return o, usage("--key must not be empty")
	case given("from-seq") && f.fromSeq == 0:
		return o, usage("--from-seq: sequences begin at 1")
	case given("since") && f.since <= 0:
		return o, usage("--since must be positive, like 10m")
	case f.last < 0:
		return o, usage("--last must not be negative")
	}
	if given("partition") {
		o.Partition = &f.partition
	}
	return o, nil
}

func (a *App) runTap(cmd *cobra.Command, topic string, f tapFlags) error {
	o, err := f.options(cmd)
	if err != nil {
		return err
	}
	client, err := a.client(cmd)
	if err != nil {
		return err
	}
	stream, err := client.Tap(cmd.Context(), topic, o)
	if err != nil {
		return err
	}
	defer stream.Close()
	show := a.showJSON
	if f.format == formatTable && (isTerminal(a.Out) || cmd.Flag("output").Changed) {
		show = a.showLine
	}
	for shown := 0; ; shown++ {
		m, err := stream.Next()
		if shown == 0 && errors.Is(err, io.EOF) && isTerminal(a.Err) {
			fmt.Fprintln(a.Err, "no such message is stored")
		}
		if errors.Is(err, io.EOF) || cmd.Context().Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := show(m); err != nil {
			return err
		}
	}
}

func (a *App) showJSON(m *api.Message) error {
	_, err := a.Out.Write(jsonLine(m))
	return err
}

// showLine shows a message in one line: when, which, of which key, what.
func (a *App) showLine(m *api.Message) error {
	line := fmt.Sprintf("%s  %s  %s  %s", clockTime(m.Time), m.ID, printable(partitioner.KeyName(m.Key)), payloadText(m))
	if only := onlyGroup(m); only != "" {
		line = fmt.Sprintf("%s  %s  %s  (for group %s alone)  %s", clockTime(m.Time), m.ID, printable(partitioner.KeyName(m.Key)), only, payloadText(m))
	}
	_, err := fmt.Fprintln(a.Out, fit(line, terminalWidth(a.Out)))
	return err
}

// clockTime is a stored time in this machine's zone, with the day if it is not today.
func clockTime(stored string) string {
	at, err := time.Parse(time.RFC3339Nano, stored)
	if err != nil {
		return stored
	}
	at = at.Local()
	if at.Format(time.DateOnly) != time.Now().Format(time.DateOnly) {
		return at.Format("2006-01-02 15:04:05.000")
	}
	return at.Format("15:04:05.000")
}

// payloadText is a payload for people to see.
func payloadText(m *api.Message) string {
	if m.Data == nil {
		return "(" + humanize.Bytes(uint64(len(m.DataB64))) + " that are no text)"
	}
	return printable(*m.Data)
}

// printable shows text that others wrote in one line, and nothing that could steer the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return '·'
	}, text)
}

// fit cuts a line to a width; 0 leaves it alone.
func fit(line string, width int) string {
	if r := []rune(line); width > 0 && len(r) > width {
		return string(r[:width-1]) + "…"
	}
	return line
}
