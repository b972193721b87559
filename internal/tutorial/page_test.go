package tutorial

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// step is one thing that a page has its reader do.
type step struct {
	line     int    // In the page.
	terminal string // Of a command that stays in the foreground there; empty: it ends by itself.
	command  string // For a shell; stop stands for ^C.
	output   []string
	file     string // To be written or appended to, instead of a command.
	appended bool
	text     string
}

// stop is the command that ends what runs in a terminal.
const stop = "^C"

// fence begins or ends a block: its language, and the terminal that it belongs to.
var fence = regexp.MustCompile("^```([a-z]*)(?: title=\"([^\"]*)\")?$")

// named is the line before a file's block: it says which file, and whether the block is added to it.
var named = regexp.MustCompile("^(Add to |)`([a-z_.]+)`:$")

// read takes a page apart. Every block of a language must be a console or have a file's name before it.
func read(t *testing.T, path string) (steps []step) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for i := 0; i < len(lines); i++ {
		open := fence.FindStringSubmatch(lines[i])
		if open == nil {
			continue
		}
		body := lines[i+1:]
		end := slices.Index(body, "```")
		if end < 0 {
			t.Fatalf("%s:%d: the block does not end", path, i+1)
		}
		found, err := steppers(lines[:i], open, body[:end], i+2)
		if err != nil {
			t.Fatalf("%s:%d: %v", path, i+1, err)
		}
		steps = append(steps, found...)
		i += end + 1
	}
	return steps
}

// steppers are the steps of one block.
func steppers(before, open, body []string, line int) ([]step, error) {
	if open[1] == "console" {
		return commands(body, open[2], line)
	}
	for _, text := range slices.Backward(before) {
		if text == "" {
			continue
		}
		name := named.FindStringSubmatch(text)
		if name == nil {
			return nil, fmt.Errorf("a block of %q with no file's name before it, but %q", open[1], text)
		}
		return []step{{line: line, file: name[2], appended: name[1] != "", text: strings.Join(body, "\n") + "\n"}}, nil
	}
	return nil, fmt.Errorf("a block with nothing before it")
}

// commands are the steps of a console: each line after "$ " with the output that follows it.
func commands(body []string, terminal string, line int) (steps []step, err error) {
	for i, text := range body {
		command, is := strings.CutPrefix(text, "$ ")
		switch {
		case is || text == stop:
			if text == stop {
				command = stop
			}
			steps = append(steps, step{line: line + i, terminal: terminal, command: command})
		case len(steps) == 0:
			return nil, fmt.Errorf("output before any command: %q", text)
		default:
			last := &steps[len(steps)-1]
			last.output = append(last.output, text)
		}
	}
	return steps, nil
}

// shapes are parts of an output that differ from run to run: the page shows one of many, and any of them will do.
var shapes = []struct{ from, to string }{
	{`\d\d:\d\d:\d\d\.\d+`, `\d\d:\d\d:\d\d\.\d+`},
	{`\d\d:\d\d:\d\d`, `\d\d:\d\d:\d\d`},
	{`\d+\.\d+ ?(ms|s)\b`, `\d+\.\d+ ?(ms|s)\b`},
	{`pid \d+`, `pid \d+`},
	{`\b\d+ (s|min) ago`, `\d+ (s|min) ago`},
}

// pattern is what an output must look like: "…" stands for anything in a line, and alone in a line for any lines. How
// many blanks are between two columns depends on what else is in them.
func pattern(output []string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`^`)
	for _, line := range output {
		if line = strings.Join(strings.Fields(line), " "); line == "…" {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		b.WriteString(shaped(line) + `\n`)
	}
	return regexp.MustCompile(b.String())
}

// shaped is a line as a regular expression, with what varies replaced by its shape.
func shaped(line string) string {
	for _, s := range shapes {
		at := regexp.MustCompile(s.from).FindStringIndex(line)
		if at != nil {
			return shaped(line[:at[0]]) + s.to + shaped(line[at[1]:])
		}
	}
	return strings.ReplaceAll(regexp.QuoteMeta(line), "…", `.*`)
}

// folded is an output with its blanks as pattern wants them, and without empty lines at its end.
func folded(output string) string {
	lines := strings.Split(strings.TrimRight(output, "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// matches reports whether an output is what the page shows: as a whole, or as a beginning if more may come.
func matches(expected []string, output string, whole bool) bool {
	expected = trimmed(expected)
	if len(expected) == 0 {
		return !whole || strings.TrimSpace(output) == ""
	}
	output = folded(output)
	at := pattern(expected).FindStringIndex(output)
	if at == nil {
		return false
	}
	return !whole || at[1] == len(output) || expected[len(expected)-1] == "…"
}

// trimmed leaves out empty lines at the end, which separate commands in a block.
func trimmed(lines []string) []string {
	for len(lines) > 0 && strings.TrimSpace(lines[len(lines)-1]) == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

func TestOutputsAreCompared(t *testing.T) {
	shown := []string{"stored 13:41:09.104  in 0.1s", "…", "OK: cluster …, 3 nodes", ""}
	for output, want := range map[string]bool{
		"stored 07:00:00.9 in 12.5s\nOK: cluster a, 3 nodes\n":           true,
		"stored 07:00:00.9 in 12.5s\nx\n\ny\nOK: cluster a b, 3 nodes\n": true,
		"stored 07:00:00.9 in 12.5s\nNOT OK: cluster a, 3 nodes\n":       false,
		"stored 07:00:00.9 in 12.5s\nOK: cluster a, 3 nodes\nand more\n": false,
		"stored today in 12.5s\nOK: cluster a, 3 nodes\n":                false,
		"before\nstored 07:00:00.9 in 12.5s\nOK: cluster a, 3 nodes\n":   false,
		"stored 07:00:00.9 in 12.5s and\nOK: cluster a, 3 nodes\n":       false,
		"":                               false,
		"stored 07:00:00.9 in 12.5s\n\n": false,
	} {
		if got := matches(shown, output, true); got != want {
			t.Errorf("%q: %v", output, got)
		}
	}
	if !matches(shown[:1], "stored 07:00:00.9 in 12.5s\nand more\n", false) || matches(nil, "something\n", true) ||
		!matches(nil, "\n", true) {
		t.Error("beginnings and empty outputs")
	}
}

func TestPagesAreTakenApart(t *testing.T) {
	path := t.TempDir() + "/page.md"
	page := "# A page\n\nAdd to `config.toml`:\n\n```toml\nx = 1\n```\n\n```console\n$ one\nout\n\n$ " +
		"two\n```\n```console title=\"terminal 1\"\n^C\nbye\n```\n"
	if err := os.WriteFile(path, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%+v", read(t, path))
	want := fmt.Sprintf("%+v", []step{
		{line: 6, file: "config.toml", appended: true, text: "x = 1\n"},
		{line: 10, command: "one", output: []string{"out", ""}}, {line: 13, command: "two"},
		{line: 16, terminal: "terminal 1", command: stop, output: []string{"bye"}},
	})
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
