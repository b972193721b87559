package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestContextsAreSavedListedUsedAndRemoved(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Chdir(t.TempDir())
	socket := agent(t, &fakeSource{status: healthy()})
	link(t, socket, "agent.sock")

	run(t, "context", "list").want(t, exitOK, "There are no contexts")
	run(t, "context", "show").want(t, exitNotFound, "no context is in use")
	run(t, "context", "add", "site-a", "--addr", "./agent.sock").want(t, exitOK, "saved context site-a",
		"context use site-a")
	run(t, "context", "add", "site-a", "--addr", "127.0.0.1:1").want(t, exitFailed, "already", "--replace")
	run(t, "context", "add", "site-b", "--addr", "127.0.0.1:1").want(t, exitOK)
	run(t, "context", "add", "site-b", "--addr", "127.0.0.1:2", "--replace").want(t, exitOK)
	run(t, "context", "use", "site-c").want(t, exitNotFound, `no context "site-c"`, "context list")
	run(t, "context", "use", "site-a").want(t, exitOK, "using context site-a")

	t.Chdir(t.TempDir()) // The relative path of the socket was saved as an absolute one.
	run(t, "status").want(t, exitOK, "OK:")
	r := run(t, "context", "list")
	r.want(t, exitOK, "site-a", "127.0.0.1:2")
	if line := strings.Split(r.out, "\n")[1]; !strings.HasPrefix(line, "*  site-a") {
		t.Errorf("the one in use is not marked: %s", r.out)
	}
	run(t, "context", "show").want(t, exitOK, "site-a")
	run(t, "context", "show", "site-b").want(t, exitOK, "127.0.0.1:2")

	run(t, "context", "remove", "site-a").want(t, exitOK, "removed context site-a")
	run(t, "context", "remove", "site-a").want(t, exitNotFound, "site-a")
	run(t, "context", "show").want(t, exitNotFound, "no context is in use") // A removed one is in use no more.
	run(t, "context", "use", "site-b").want(t, exitOK)
	run(t, "context", "unselect").want(t, exitOK, "no context")
	run(t, "context", "unselect").want(t, exitOK)
	run(t, "context", "show").want(t, exitNotFound)
}

func TestContextNamesCannotLeaveTheirDirectory(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for _, name := range []string{"../x", "a/b", ".hidden", "", "a b", "ümlaut", "-x1\x1b[31m", strings.Repeat("a", 65)} {
		run(t, "context", "add", "--addr", "127.0.0.1:1", "--", name).want(t, exitUsage, "not a valid context name")
	}
	t.Setenv(contextVariable, "../x")
	run(t, "status").want(t, exitUsage, "not a valid context name")
}

func TestContextsAreCheckedWhenTheyAreSavedAndRead(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv(addrVariable, "127.0.0.1:1")
	run(t, "context", "add", "x").want(t, exitUsage, "--addr is missing") // The environment's is not saved by accident.
	run(t, "context", "add", "x", "--addr", "plant").want(t, exitUsage, "must be host:port")
	run(t, "context", "add", "x", "--addr", "127.0.0.1:1", "--token-file", "/nonexistent").
		want(t, exitUsage, "--token-file")
	run(t, "context", "add", "x", "--addr", "https://127.0.0.1:1", "--tls-ca",
		writeFile(t, filepath.Join(t.TempDir(), "ca.pem"), "not one\n")).want(t, exitUsage, "no certificate")
	if _, err := os.Stat(filepath.Join(dir, "leasehold")); err == nil {
		t.Error("a refused context left files")
	}
	t.Setenv(addrVariable, "")
	t.Setenv(contextVariable, "hand")
	path := filepath.Join(dir, "leasehold", "context", "hand.toml")
	for text, says := range map[string]string{
		"addr = \"127.0.0.1:1\"\ntoken = \"x\"\n": `unknown key "token"`, "addr = \n": "hand.toml", "": "addr is empty",
		"addr = 3\n": "hand.toml",
	} {
		writeFile(t, path, text)
		run(t, "status").want(t, exitUsage, says)
	}
}

// TestAContextBringsItsOwnToken: a token of the environment may be another site's, and must not be sent there.
func TestAContextBringsItsOwnToken(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	dir := t.TempDir()
	file := func(name string) string { return writeFile(t, filepath.Join(dir, name), "token-"+name) }
	run(t, "context", "add", "with", "--addr", "127.0.0.1:1", "--token-file", file("saved")).want(t, exitOK)
	run(t, "context", "add", "without", "--addr", "127.0.0.1:1").want(t, exitOK)
	t.Setenv(tokenVariable, file("environment"))
	for args, want := range map[string]string{
		"--context with": "token-saved", "--context without": "", "--addr 127.0.0.1:1": "token-environment",
		"--context with --token-file " + filepath.Join(dir, "environment"): "token-environment",
	} {
		a := &App{}
		root := a.root()
		cmd, rest, err := root.Find(append([]string{"status"}, strings.Fields(args)...))
		if err != nil || cmd.ParseFlags(rest) != nil {
			t.Fatal(err)
		}
		cmd.SetContext(t.Context())
		if _, err := a.findAgent(cmd); err != nil {
			t.Fatal(err)
		}
		if got, err := a.token(); err != nil || got != want {
			t.Errorf("%s: token %q, %v; want %q", args, got, err, want)
		}
	}
}
