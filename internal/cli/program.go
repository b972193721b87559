package cli

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// productName is how texts call the binary.
const productName = "leasehold"

// program is how the user calls this binary, for commands that are meant to be pasted.
func (a *App) program() string { return cmp.Or(a.Program, productName) }

// calledAs is how a binary that was started as arg0 can be started again from here: by its name if that finds it in
// PATH, else by its path.
func calledAs(arg0 string) string {
	name := filepath.Base(arg0)
	if inPath, err := exec.LookPath(name); err == nil && sameFile(inPath, arg0) {
		return name
	}
	if !strings.Contains(arg0, "/") {
		return arg0
	}
	short := shortPath(arg0)
	if !strings.Contains(short, "/") {
		short = "./" + short
	}
	return shellWord(short)
}

// sameFile reports whether a file in PATH is the one that arg0 started; without a slash, arg0 came from PATH itself.
func sameFile(inPath, arg0 string) bool {
	if !strings.Contains(arg0, "/") {
		return true
	}
	a, errA := os.Stat(inPath)
	b, errB := os.Stat(arg0)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// shellWord quotes a text for a shell if it has to be.
func shellWord(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:,@%=", r)
	}
	if text != "" && strings.TrimFunc(text, plain) == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
