package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"leasehold/internal/api"
	"leasehold/internal/cli/screen"
	"leasehold/internal/cli/screen/screentest"
	"leasehold/internal/jsondata"
)

// runOnTerminal runs a command whose stdout and stderr are one terminal.
func runOnTerminal(t *testing.T, width int, args ...string) ran {
	t.Helper()
	t.Setenv("TERM", "xterm")
	terminal, read := screentest.Open(t, width)
	app := &App{Run: fakeNode, In: strings.NewReader(""), Out: terminal, Err: terminal}
	code := app.Main(t.Context(), args)
	return ran{code: code, out: read()}
}

// evil is what publishers and handlers may write: a title, red, a C1 control, an override of direction, and a forged
// line.
const evil = "x\x1b]0;title\a\x1b[31m\u009b2J\u202ed\r\nOK: cluster fine\n"

// evilAgent answers with it wherever text of others can stand.
func evilAgent(t *testing.T) string {
	f := ordersOf(evil)
	f.stored[0].Payload = jsondata.New([]byte(evil))
	f.stored[0].Headers = map[string][]string{"X" + evil: {evil}}
	s := f.status
	s.Warnings = []string{evil}
	s.Nodes = append(s.Nodes, api.Node{Name: "n2", State: evil, Version: evil, Address: evil})
	s.Groups[0].Partitions = []api.Partition{
		{Owner: "n1", State: "retrying", Error: evil, Lag: lag(1)}, {Partition: 1, Owner: "n1", State: "paused", Paused: evil,
			Lag: lag(1)},
	}
	f.letters = []api.Letter{{
		Number: 1, Kind: "dead", Reason: "rejected", Error: evil, Key: "k%1B%5D0;X%07%0D%0AOK: cluster fine",
		ID: "orders/0/1", Subject: evil,
		Headers: map[string][]string{"X" + evil: {evil}},
		Payload: jsondata.New([]byte("x\x1b[2J\u009b\u202e\nNext: `rm -rf /`")), LeftOut: evil, FirstFailure: evil,
	}}
	return agent(t, f)
}

func TestNoTextOfOthersSteersATerminalOrForgesALine(t *testing.T) {
	addr := evilAgent(t)
	for _, command := range []string{
		"status", "status --partitions", "explain orders 1", "explain orders x", "dlq list billing", "dlq show billing 1",
		"dlq export billing",
		"tap orders", "node list", "group list", "topic list", "dlq drop billing --all --dry-run",
		"dlq release billing --key k",
	} {
		for _, format := range []string{"", "wide", "json"} {
			args := append(strings.Fields(command), "--addr", addr, "--config", "/nonexistent")
			if format != "" {
				args = append(args, "-o", format)
			}
			for name, got := range map[string]string{"pipe": run(t, args...).out,
				"terminal": runOnTerminal(t, 80, args...).out} {
				for _, ours := range []string{"\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[1m", "\x1b[0m"} {
					if name == "terminal" {
						got = strings.ReplaceAll(got, ours, "")
					}
				}
				if strings.ContainsAny(got, "\x1b\a\u009b\u202e") || strings.Contains("\n"+got, "\nOK: cluster fine") {
					t.Errorf("%s -o %s, %s: %q", command, format, name, got)
				}
			}
		}
	}
	if r := run(t, "dlq", "show", "billing", "1", "--addr", addr); strings.Contains(r.out, "\nNext: `rm") ||
		!strings.Contains(r.out, "\n  Next: `rm") {
		t.Errorf("a payload forges a line: %q", r.out)
	}
	var list api.LetterList
	printed := run(t, "dlq", "list", "billing", "--addr", addr, "-o", "json").out
	if err := json.Unmarshal([]byte(printed), &list); err != nil || list.Letters[0].Error != evil {
		t.Errorf("JSON lost the text: %v, %+v", err, list.Letters)
	}
}

func TestErrorsDoNotSteerTheTerminal(t *testing.T) {
	for _, args := range [][]string{
		{"status" + evil}, {"status", "--" + evil}, {"status", "--addr", "/nonexistent" + evil},
		{"dlq", "list", "billing", "--key", evil, "--addr", evilAgent(t)},
		{"explain", "orders", "1", "--config", evil}, {"dlq", "show", "billing", evil},
	} {
		r := run(t, args...)
		if strings.ContainsAny(r.err, "\x1b\a\u009b\u202e") || strings.Contains("\n"+r.err, "\nOK: cluster fine") {
			t.Errorf("%q: %q", args, r.err)
		}
	}
}

func TestEachStateThatNeedsSomebodyShowsTheCommand(t *testing.T) {
	partition := func(state, text string) func(*api.Status) {
		return func(s *api.Status) {
			s.Groups[0].Partitions = []api.Partition{{Owner: "n1", State: "held", Lag: lag(0)},
				{Partition: 1, Owner: "n1", State: state, Error: text, RetryAt: "2026-01-02T03:04:05Z"},
				{Partition: 2, Owner: "n2", State: state, Error: text}, {Partition: 4, Owner: "n2", State: state, Error: text}}
		}
	}
	for name, c := range map[string]struct {
		change func(*api.Status)
		says   string
	}{
		"blocked": {partition("blocked", "boom"),
			"Next: fix what the error says, then `leasehold resume billing --partition 1-2,4`"},
		"unavailable": {partition("unavailable", "503"), "or at once with `leasehold resume billing --partition 1-2,4`"},
		"retrying":    {partition("retrying", "boom"), "it is retried automatically at "},
		"overdue":     {partition("overdue", "no answer"), "Next: look at the handler on n1 1, n2 2"},
		"dead": {func(s *api.Status) {
			s.Nodes = append(s.Nodes, api.Node{Name: "n2", State: "buried"})
		}, "`leasehold node remove n2`"},
		"not ready": {func(s *api.Status) {
			s.Nodes = append(s.Nodes, api.Node{Name: "n2", State: "live"})
		}, "ask node n2 what it waits for"},
		"disk":    {func(s *api.Status) { s.Nodes[0].DiskShort = true }, "free disk space on n1"},
		"unowned": {func(s *api.Status) { s.Groups[0].Unowned = 2 }, "`leasehold group list`"},
		"paused": {func(s *api.Status) {
			s.Groups[0].Partitions[0].Paused = "lunch"
		}, "Next: when the reason for the pause is gone: `leasehold resume billing --partition 0`"},
	} {
		s := healthy()
		c.change(s)
		r := run(t, "status", "--addr", agent(t, &fakeSource{status: s}))
		r.want(t, exitUnhealthy, c.says)
		if strings.Count(r.out, "Next: ") != 1 {
			t.Errorf("%s: %s", name, r.out)
		}
	}
	s := healthy()
	s.Groups[0].Partitions[0].State, s.Groups[0].Partitions[0].Error = "blocked",
		"boom; `leasehold resume billing --partition 0` tries it again"
	if r := run(t, "status", "--addr", agent(t, &fakeSource{status: s})); strings.Contains(r.out, "Next:") {
		t.Errorf("what the error says is said again: %s", r.out)
	}
}

func TestTablesFitATerminalOf80Columns(t *testing.T) {
	f := explained(1, "retrying", 2)
	f.letters = someLetters(3)
	f.letters[0].Error = "database constraint orders_total_positive violated: total is -7 in order 1007 of customer " +
		"c-17, see the ledger"
	f.letters[0].LastFailure = time.Now().Add(-3 * time.Minute).UTC().Format(time.RFC3339Nano)
	f.status.Groups[0].Partitions[f.stored[0].Partition].Error = f.letters[0].Error
	addr := agent(t, f)
	for command, whole := range map[string]string{
		"dlq list billing": "see the ledger", "explain orders 3": "after 2 failed calls", "node list": "down, still a voter",
		"status --partitions": "see the ledger",
	} {
		r := runOnTerminal(t, 80, append(strings.Fields(command), "--addr", addr)...)
		for _, line := range strings.Split(r.out, "\n") {
			if n := text.StringWidthWithoutEscSequences(line); n > 80 {
				t.Errorf("%s: %d columns: %q", command, n, line)
			}
		}
		if joined := strings.Join(strings.Fields(r.out), " "); !strings.Contains(joined, whole) {
			t.Errorf("%s: no %q in\n%s", command, whole, r.out)
		}
	}
	runOnTerminal(t, 80, "dlq", "list", "billing", "--addr", addr).want(t, exitOK, "3 min ago",
		"leasehold dlq release billing --all")
	run(t, "dlq", "list", "billing", "--addr", addr, "-o", "wide").want(t, exitOK, "REQUEUES",
		time.Now().Format("2006-01-02T"))
	run(t, "node", "list", "--addr", addr, "-o", "wide").want(t, exitOK, "SERVER ID")
}

func TestWhatIsNotKnownIsNotShownAsANumber(t *testing.T) {
	s := healthy()
	s.Groups[0].Lag, s.Groups[0].DeadLetters = nil, -1
	r := run(t, "status", "--addr", agent(t, &fakeSource{status: s}))
	if row := strings.Join(strings.Fields(r.out), " "); !strings.Contains(row, "billing orders unknown 0 unknown n1 1") {
		t.Errorf("got %s", r.out)
	}
}

func TestStatusOfOneGroup(t *testing.T) {
	s := healthy()
	s.Groups = append(s.Groups, api.Group{Name: "audit", Topic: "orders", Lag: lag(2),
		Partitions: []api.Partition{{Owner: "n1", State: "blocked", Error: "boom", Lag: lag(2)}}})
	addr := agent(t, &fakeSource{status: s})
	r := run(t, "status", "--group", "audit", "--addr", addr)
	r.want(t, exitUnhealthy, "NOT OK: group audit: 1 partition blocked", "`leasehold resume audit --partition 0`", "EPOCH")
	if strings.Contains(r.out, "billing") || strings.Contains(r.out, "VERSION") {
		t.Errorf("got %s", r.out)
	}
	var g api.Group
	printed := run(t, "status", "--group", "billing", "-o", "json", "--addr", addr).out
	if err := json.Unmarshal([]byte(printed), &g); err != nil || g.Name != "billing" {
		t.Errorf("%v, %+v", err, g)
	}
	// audit is blocked.
	run(t, "status", "--group", "billing", "--addr", addr).want(t, exitUnhealthy,
		"OK: group billing, every partition owned, lag: ")
	run(t, "status", "--group", "nope", "--addr", addr).want(t, exitNotFound, `there is no group "nope"`,
		"leasehold group list")
}

func TestColourIsChosen(t *testing.T) {
	addr := agent(t, &fakeSource{status: healthy()})
	run(t, "status", "--addr", addr, "--color", "always").want(t, exitOK, "\033[32mOK:\033[0m cluster")
	if r := runOnTerminal(t, 80, "status", "--addr", addr, "--color", "never"); strings.Contains(r.out, "\033") {
		t.Errorf("got %q", r.out)
	}
	run(t, "status", "--addr", addr, "--color", "pink").want(t, exitUsage, `--color "pink": use auto, always or never`)
}

func TestWatchWrapsWhatIsLong(t *testing.T) {
	t.Setenv("TERM", "xterm")
	s := healthy()
	s.Groups[0].Partitions[0].Error = strings.Repeat("long ", 40) + "end" + evil
	terminal, read := screentest.Open(t, 60)
	app := &App{Out: screen.New(terminal)}
	if err := app.showLook(s, nil, statusFlags{format: formatTable}, true); err != nil {
		t.Fatal(err)
	}
	got := read()
	if !strings.Contains(got, "long end") || !strings.Contains(got, "\033[31mNOT OK:\033[0m") ||
		strings.ContainsAny(got, "\a\u009b") {
		t.Errorf("got %q", got)
	}
	for _, line := range strings.Split(got, "\n") {
		if n := text.StringWidthWithoutEscSequences(line); n > 60 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	var piped bytes.Buffer
	app.Out = &piped
	if err := app.showLook(s, nil, statusFlags{format: formatJSON}, false); err != nil ||
		strings.Contains(piped.String(), "\u009b") {
		t.Errorf("%v, %q", err, piped.String())
	}
}
