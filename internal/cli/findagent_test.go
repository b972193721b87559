package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"leasehold/internal/config"
	"leasehold/internal/devcluster"
)

// place serves an agent of cluster name at the socket of a node's directory, and writes the node's config.
func place(t *testing.T, dir, name string) {
	t.Helper()
	s := healthy()
	s.Cluster = name
	writeFile(t, filepath.Join(dir, config.FileName), "[node]\nname = \"n1\"\ndata_dir = \"data\"\n"+
		"[[topic]]\nname = \"t\"\npartitions = 1\n[[group]]\nname = \"of-"+name+
		"\"\ntopic = \"t\"\nhandler = { kind = \"log\" }\n")
	link(t, agent(t, &fakeSource{status: s}), filepath.Join(dir, "data", config.SocketName))
}

func link(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(from, to); err != nil {
		t.Fatal(err)
	}
}

// TestAgentIsFoundInTheOrderThatTheDocsGive adds ways to find an agent from the last to the first; each must win.
func TestAgentIsFoundInTheOrderThatTheDocsGive(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	of := func(name string) string {
		s := healthy()
		s.Cluster = name
		return agent(t, &fakeSource{status: s})
	}
	wins := func(name string, args ...string) {
		t.Helper()
		run(t, append([]string{"status"}, args...)...).want(t, exitOK, "OK: cluster "+name+",")
	}

	place(t, ".", "here")
	wins("here")
	place(t, "leasehold-dev/n2", "dev")
	writeFile(t, "leasehold-dev/n1/"+config.FileName, "[node]\nname = \"n1\"\ndata_dir = \"data\"\n") // n1 does not run.
	wins("dev")

	run(t, "context", "add", "used", "--addr", of("used"), "--use").want(t, exitOK)
	run(t, "context", "add", "variable", "--addr", of("variable")).want(t, exitOK)
	run(t, "context", "add", "flag", "--addr", of("context-flag")).want(t, exitOK)
	wins("used")
	t.Setenv(contextVariable, "variable")
	wins("variable")
	t.Setenv(addrVariable, of("environment"))
	wins("environment")
	place(t, "elsewhere", "config")
	wins("config", "--config", "elsewhere/"+config.FileName)
	wins("context-flag", "--context", "flag")
	wins("context-flag", "--context", "flag", "--config", "elsewhere/"+config.FileName)
	wins("addr", "--addr", of("addr"))
	wins("addr", "--addr", of("addr"), "--config", "elsewhere/"+config.FileName)
	run(t, "status", "--addr", "127.0.0.1:1", "--context", "flag").want(t, exitUsage, "--addr and --context")
}

func TestErrorsSayWhichAgentWasAsked(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	run(t, "context", "add", "gone", "--addr", "/nonexistent.sock").want(t, exitOK)
	for _, args := range [][]string{{"status"}, {"topic", "list"}, {"tap", "orders"}, {"dlq", "list", "g"},
		{"pause", "g", "--reason", "x"}, {"explain", "orders", "1"}} {
		run(t, append(args, "--context", "gone")...).want(t, exitUnreachable, "Agent: /nonexistent.sock (context gone)")
		run(t, append(args, "--addr", "/nonexistent.sock")...).want(t, exitUnreachable, "Agent: /nonexistent.sock (--addr)")
	}
	writeFile(t, config.FileName, "[node]\nname = \"n1\"\ndata_dir = \"data\"\n")
	run(t, "status").want(t, exitUnreachable, "Agent: data/leasehold.sock (data_dir of config.toml)")
	r := run(t, "status", "-o", "json")
	var e struct{ Agent string }
	if err := json.Unmarshal([]byte(r.err), &e); err != nil || e.Agent != "data/leasehold.sock (data_dir of config.toml)" {
		t.Errorf("%v in %s", err, r.err)
	}
	run(t, "status", "--bogus").lacks(t, "Agent:")
}

func (r ran) lacks(t *testing.T, text string) {
	t.Helper()
	if strings.Contains(r.out+r.err, text) {
		t.Errorf("%q in\nstdout: %s\nstderr: %s", text, r.out, r.err)
	}
}

func TestAConfigOfAnotherProgramIsNotTakenForOurs(t *testing.T) {
	for name, text := range map[string]string{
		"hugo": "baseURL = 'https://example.org/'\n", "cargo": "[build]\njobs = 1\n", "empty": "",
		"yaml": "node:\n  name: n1\n",
	} {
		path := writeFile(t, filepath.Join(t.TempDir(), config.FileName), text)
		if isConfig(path) {
			t.Errorf("%s was taken for ours", name)
		}
	}
	t.Chdir(t.TempDir())
	writeFile(t, config.FileName, "[node]\nnmae = \"n1\"\n")
	// Ours and broken: no other agent is asked.
	run(t, "status").want(t, exitUsage, "config.toml:2", `did you mean "name"`)
}

func TestFilesOfOtherUsersDoNotChooseTheAgent(t *testing.T) {
	here, err := os.Stat(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	owner := int(here.Sys().(*syscall.Stat_t).Uid)
	for euid, want := range map[int]bool{owner: true, owner + 1: owner == 0, 0: owner == 0} {
		if got := mayChoose(here, euid); got != want {
			t.Errorf("a file of uid %d for uid %d: %v", owner, euid, got)
		}
	}
}

func TestCommandsThatReadAConfigFindTheOneOfTheAgent(t *testing.T) {
	t.Chdir(t.TempDir())
	place(t, ".", "here")
	run(t, "handler", "test", "of-here", "--data", "{}").want(t, exitOK, "message  t/0/1")
	run(t, "config", "validate", "--offline").want(t, exitOK, "✓ config.toml")
	place(t, "leasehold-dev/n1", "dev")
	run(t, "handler", "test", "of-dev", "--data", "{}").want(t, exitOK, "message  t/0/1")
	run(t, "handler", "test", "of-here", "--data", "{}").want(t, exitNotFound, "leasehold-dev/n1/config.toml")
	run(t, "handler", "test", "of-here", "--data", "{}", "--config", config.FileName).want(t, exitOK)

	stopped := filepath.Join(devcluster.DefaultDir, "n1", "data", config.SocketName)
	if err := os.Remove(stopped); err != nil {
		t.Fatal(err)
	}
	run(t, "handler", "test", "of-here", "--data", "{}").want(t, exitOK)
	if err := os.Remove(config.FileName); err != nil {
		t.Fatal(err)
	}
	run(t, "handler", "test", "of-dev", "--data", "{}").want(t, exitOK)
}

func TestAddressesThatCannotBeOnesAreRefused(t *testing.T) {
	for _, addr := range []string{"", "plant", ":8222", "::1", "unix:///run/leasehold.sock", "ftp://plant:21",
		"leasehold.sock", "http://", "plant:"} {
		run(t, "status", "--addr", addr).want(t, exitUsage, "--addr", "must be host:port")
	}
	for _, addr := range []string{"plant:8222", "[::1]:8222", "https://plant", "http://plant:8222/", "./leasehold.sock",
		"/run/leasehold.sock"} {
		if err := checkAddr("--addr", addr); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	t.Setenv(addrVariable, "plant")
	run(t, "status").want(t, exitUsage, addrVariable, "must be host:port")
}
