package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"leasehold/internal/cli/screen"
)

func TestCommandsInHintsCanBePasted(t *testing.T) {
	for program, want := range map[string]string{"bin/leasehold": "try `bin/leasehold status` or a leasehold\n",
		"": "try `leasehold status` or a leasehold\n"} {
		var b bytes.Buffer
		w := screen.New(&b)
		w.SetProgram(program)
		if err := w.Tell("try `leasehold status` or a leasehold"); err != nil || b.String() != want {
			t.Errorf("%q: got %q, %v", program, b.String(), err)
		}
	}
}

// TestCommandsOfTheAgentCanBePasted: it does not know how the user calls the binary.
func TestCommandsOfTheAgentCanBePasted(t *testing.T) {
	s := healthy()
	s.Warnings = []string{"group billing: `leasehold dlq list billing` shows them"}
	s.Groups[0].Partitions[0].Error = "blocked: `leasehold resume billing`"
	source := &fakeRequests{fakeMembers: fakeMembers{fakeSource: fakeSource{status: s}}}
	addr := agent(t, source)
	call := func(args ...string) string {
		var out, errs bytes.Buffer
		(&App{Out: &out, Err: &errs, In: strings.NewReader(""), Program: "bin/leasehold"}).Main(t.Context(),
			append(args, "--addr", addr))
		return out.String() + errs.String()
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"status"}, "`bin/leasehold dlq list billing`"},
		{[]string{"status"}, "`bin/leasehold resume billing`"},
		{[]string{"status", "--partitions"}, "blocked: `bin/leasehold resume"},
		{[]string{"pause", "billing", "--reason", "x"}, "`bin/leasehold resume billing`"},
	} {
		if got := call(c.args...); !strings.Contains(got, c.want) {
			t.Errorf("%v: no %q in\n%s", c.args, c.want, got)
		}
	}
	if got := call("status", "-o", "json"); !strings.Contains(got, "`leasehold dlq list billing`") {
		t.Errorf("programs get what the agent says: %s", got)
	}
}

func TestTheBinaryIsCalledAsItCanBe(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"bin/leasehold", "usr/bin/leasehold", "my bin/leasehold", "leasehold"} {
		writeFile(t, filepath.Join(dir, path), "#!/bin/sh\n")
		if err := os.Chmod(filepath.Join(dir, path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	t.Setenv("PATH", filepath.Join(dir, "usr/bin"))
	for arg0, want := range map[string]string{
		"leasehold":                              "leasehold",          // Found in PATH.
		filepath.Join(dir, "usr/bin/leasehold"):  "leasehold",          // Needs no path.
		"./leasehold":                            "./leasehold",        // PATH has another one.
		"bin/leasehold":                          "bin/leasehold",      //
		filepath.Join(dir, "bin/leasehold"):      "bin/leasehold",      // No absolute path where a relative one will do.
		filepath.Join(dir, "my bin/leasehold"):   "'my bin/leasehold'", // A shell would split it.
		filepath.Join(dir, "../elsewhere/lease"): filepath.Join(filepath.Dir(dir), "elsewhere/lease"),
	} {
		if got := calledAs(arg0); got != want {
			t.Errorf("%s: %s, want %s", arg0, got, want)
		}
	}
}

func TestWordsAreQuotedForAShell(t *testing.T) {
	for _, word := range []string{"plain", "", "two words", "it's", "$HOME", "a;b", "*", "~x", "ü", "a\nb"} {
		out, err := exec.Command("sh", "-c", "printf %s "+shellWord(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q came out as %q, %v", word, out, err)
		}
	}
}
