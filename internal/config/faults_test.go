package config

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the faults that are found into testdata")

// brokenConfigs is a file of configs and their faults: "== name", the config, "--", and a line for each fault.
const brokenConfigs = "testdata/broken.txt"

// TestBrokenConfigsHaveTheirFaults holds every fault, its line and its words. What no fault may do is hide another.
func TestBrokenConfigsHaveTheirFaults(t *testing.T) {
	text, err := os.ReadFile(brokenConfigs)
	if err != nil {
		t.Fatal(err)
	}
	var now strings.Builder
	for _, section := range strings.Split(string(text), "== ")[1:] {
		name, rest, _ := strings.Cut(section, "\n")
		config, want, found := strings.Cut(rest, "--\n")
		if !found {
			t.Fatalf("%s: no line with --", name)
		}
		got := faultLines(t, config)
		if got != want && !*update {
			t.Errorf("%s: got\n%swant\n%s", name, got, want)
		}
		fmt.Fprintf(&now, "== %s\n%s--\n%s", name, config, got)
	}
	if *update {
		if err := os.WriteFile(brokenConfigs, []byte(now.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// faultLines prints the faults of a config, one a line.
func faultLines(t *testing.T, text string) string {
	t.Helper()
	_, err := Parse(filepath.Join(t.TempDir(), FileName), text)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error for\n%s", err, text)
	}
	var lines strings.Builder
	for _, f := range e.Faults {
		fmt.Fprintf(&lines, "%d: %s\n", f.Line, f.Message)
	}
	return lines.String()
}
