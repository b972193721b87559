package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestCommandsInHintsCanBePasted(t *testing.T) {
	a := &App{Program: "bin/leasehold"}
	if got := a.pasteable("try `leasehold status` or a leasehold"); got != "try `bin/leasehold status` or a leasehold" {
		t.Error(got)
	}
	if got := (&App{}).pasteable("`leasehold status`"); got != "`leasehold status`" {
		t.Error(got)
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
