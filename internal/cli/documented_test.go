package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// shown finds commands in a page: in a code span, or at the beginning of a line of a block, with or without a prompt.
var shown = regexp.MustCompile("`leasehold( [^`]*)`|(?m)^(?:    |\\$ )?(?:sudo )?leasehold( .*)$")

// ends cuts a command off where the shell or a comment goes on.
var ends = regexp.MustCompile(`\s([|;&<>#\\]|[0-9]?>)`)

// words splits a command as a shell does, as far as the pages need it.
func words(command string) (list []string) {
	if at := ends.FindStringIndex(command); at != nil {
		command = command[:at[0]]
	}
	for _, w := range regexp.MustCompile(`(?:'[^']*'|"[^"]*"|\S)+`).FindAllString(command, -1) {
		list = append(list, strings.NewReplacer("'", "", `"`, "", "[", "", "]", "").Replace(w))
	}
	return list
}

// TestDocumentedCommandsExist: each command that a page shows is one of ours, with flags that it has and values that
// they take.
func TestDocumentedCommandsExist(t *testing.T) {
	found := 0
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range shown.FindAllStringSubmatch(string(text), -1) {
			found++
			if err := understood(words(m[1] + m[2])); err != nil {
				t.Errorf("%s: leasehold%s%s: %v", page, m[1], m[2], err)
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d commands were found", found)
	}
}

// understood looks a command up as running it would, and parses its flags.
func understood(args []string) error {
	if at := slices.Index(args, "--"); at >= 0 {
		args = args[:at]
	}
	root := (&App{}).root()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.InitDefaultVersionFlag()
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil && !errors.Is(err, pflag.ErrHelp) {
		return err
	}
	if cmd.HasSubCommands() && !slices.Contains(args, "COMMAND") {
		return cmd.ValidateArgs(cmd.Flags().Args()) // What is left would be a command.
	}
	return nil
}

func TestUnderstoodFindsWhatIsNotThere(t *testing.T) {
	for command, want := range map[string]bool{
		"pub orders --key c-17 '{\"a b\": 1}' | cat": true, "dlq list billing": true, "COMMAND --help": true,
		"tap orders -o json > x": true,
		"publish orders":         false, "dlq lists": false, "tap orders --tail": false,
		"pub orders --max-pending many": false,
	} {
		if err := understood(words(command)); (err == nil) != want {
			t.Errorf("%s: %v", command, err)
		}
	}
}

// pages are the documents that operators read.
func pages(t *testing.T) (list []string) {
	t.Helper()
	for _, dir := range []string{"../../docs", "../../examples", "../../systemd"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if strings.HasSuffix(path, ".md") {
				list = append(list, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return append(list, "../../README.md")
}
