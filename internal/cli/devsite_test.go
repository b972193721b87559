package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"leasehold/internal/config"
	"leasehold/internal/devcluster"
)

// startedAndStopped starts a cluster of fake nodes in dir, stops it, and returns arguments to start it again.
func startedAndStopped(t *testing.T, dir string, more ...string) []string {
	t.Helper()
	t.Cleanup(func() { run(t, "dev", "down", "--dir", dir) })
	run(t, devArgs(t, dir, append([]string{"--detach"}, more...)...)...).want(t, exitOK, "All ready")
	run(t, "dev", "down", "--dir", dir).want(t, exitOK)
	return []string{"dev", "--detach", "--dir", dir}
}

func edit(t *testing.T, path string, change func(string) string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := change(string(text))
	if err := os.WriteFile(path, []byte(changed), 0o640); err != nil {
		t.Fatal(err)
	}
	return changed
}

func wantFile(t *testing.T, path, text string) {
	t.Helper()
	if have, err := os.ReadFile(path); err != nil || string(have) != text {
		t.Errorf("%s: %v, not what it was:\n%s", path, err, have)
	}
}

func TestDevKeepsWhatSomebodyEdited(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	again := startedAndStopped(t, dir)
	at := func(node, file string) string { return filepath.Join(dir, node, file) }
	edits := map[string]string{
		at("n1", config.FileName): edit(t, at("n1", config.FileName), func(s string) string {
			return s + "\n[[topic]]\nname = \"mine\"\npartitions = 4\n"
		}),
		at("n2", config.FileName): edit(t, at("n2", config.FileName), func(s string) string {
			return strings.ReplaceAll(s, "\n", "\r\n")
		}),
		at("n3", config.FileName): edit(t, at("n3", config.FileName), func(s string) string {
			return strings.Replace(s, `"data"`, `"elsewhere"`, 1)
		}),
		at("n2", secretFile): edit(t, at("n2", secretFile), func(s string) string { return config.NewSecret() + s }),
	}
	r := run(t, again...)
	r.want(t, exitOK, "kept "+at("n1", config.FileName), "kept "+at("n2", config.FileName),
		"kept "+at("n3", config.FileName), "All ready")
	run(t, "dev", "status", "--dir", dir).want(t, exitOK, "n3    ready") // Also where data_dir was edited.
	for path, text := range edits {
		wantFile(t, path, text)
	}
	run(t, "dev", "down", "--dir", dir, "--purge").want(t, exitOK, "kept "+at("n1", config.FileName), "was edited")
	wantFile(t, at("n1", config.FileName), edits[at("n1", config.FileName)])
	if _, err := os.Stat(at("n1", "data")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("purge left data: %v", err)
	}
	run(t, again...).want(t, exitOK, "kept "+at("n1", config.FileName))
}

func TestDevWritesAConfigThatIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	again := startedAndStopped(t, dir)
	path := filepath.Join(dir, "n2", config.FileName)
	text, err := os.ReadFile(path)
	if err != nil || os.Remove(path) != nil {
		t.Fatal(err)
	}
	r := run(t, again...)
	r.want(t, exitOK)
	r.lacks(t, "kept")
	wantFile(t, path, string(text))
}

// TestDevRefusesToMixAnEditWithOtherFlags: one of the two would be lost, so nothing is written at all.
func TestDevRefusesToMixAnEditWithOtherFlags(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	again := startedAndStopped(t, dir)
	path := filepath.Join(dir, "n3", config.FileName)
	edited := edit(t, path, func(s string) string { return s + "# mine\n" })
	first, err := os.ReadFile(filepath.Join(dir, "n1", config.FileName))
	if err != nil {
		t.Fatal(err)
	}
	topics := writeFile(t, filepath.Join(t.TempDir(), "topics.toml"), "[[topic]]\nname = \"t\"\npartitions = 1\n")
	for _, flags := range [][]string{{"--topics", topics}, {"--nodes", "5"}, {"--http-port", "31999"}} {
		run(t, append(again, flags...)...).want(t, exitFailed, path+" was edited", "remove it")
	}
	wantFile(t, path, edited)
	wantFile(t, filepath.Join(dir, "n1", config.FileName), string(first))
	run(t, again...).want(t, exitOK, "kept")
}

func TestDevRemembersItsFlags(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	topics := writeFile(t, filepath.Join(t.TempDir(), "topics.toml"), "[[topic]]\nname = \"mine\"\npartitions = 1\n")
	again := startedAndStopped(t, dir, "--topics", topics)
	path := filepath.Join(dir, "n1", config.FileName)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	run(t, again...).want(t, exitOK, "pub mine")
	wantFile(t, path, string(before))
	run(t, "dev", "down", "--dir", dir).want(t, exitOK)
	writeFile(t, topics, "[[topic]]\nname = \"other\"\npartitions = 1\n")
	run(t, append(again, "--topics", topics)...).want(t, exitOK, "pub other") // Nobody edited it: it is dev's to write.
}

func TestDevNodesAreOneOrAtLeastThree(t *testing.T) {
	run(t, "dev", "--nodes", "-1").want(t, exitUsage, `--nodes: "-1" must be a whole number, at least 0`)
	for _, nodes := range []string{"0", "2"} {
		dir := filepath.Join(t.TempDir(), "demo")
		run(t, devArgs(t, dir, "--nodes", nodes)...).want(t, exitUsage, "--nodes "+nodes, "at least 3")
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("--nodes %s left files", nodes)
		}
	}
	dir := filepath.Join(t.TempDir(), "demo")
	again := startedAndStopped(t, dir, "--nodes", "1")
	c, err := config.Load(filepath.Join(dir, "n1", config.FileName))
	if err != nil || len(c.Peers()) != 0 {
		t.Fatalf("%v, peers %v", err, c.Peers())
	}
	run(t, append(again, "--nodes", "3")...).want(t, exitUsage, "data of 1 node", "--purge")
	run(t, append(again, "--nodes", "1")...).want(t, exitOK, "Cluster of 1 node ")
}

func TestDevGrowsAndDoesNotShrink(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	t.Cleanup(func() { run(t, "dev", "down", "--dir", dir) })
	args := devArgs(t, dir, "--detach")
	base := freePorts(t, 15)
	for i, arg := range args {
		if n, found := map[string]int{"--nats-port": 0, "--cluster-port": 5, "--http-port": 10}[arg]; found {
			args[i+1] = strconv.Itoa(base + n)
		}
	}
	run(t, args...).want(t, exitOK)
	run(t, "dev", "down", "--dir", dir).want(t, exitOK)
	again := []string{"dev", "--detach", "--dir", dir}
	run(t, append(again, "--nodes", "1")...).want(t, exitUsage, "data of 3 nodes")
	run(t, append(again, "--nodes", "5")...).want(t, exitOK, "Cluster of 5 nodes")
	secret, err := os.ReadFile(filepath.Join(dir, "n1", secretFile))
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(dir, "n5", secretFile), string(secret))
}

func TestOneCommandAtATimeStartsNodes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	again := startedAndStopped(t, dir)
	unlock, err := lockDev(dir)
	if err != nil {
		t.Fatal(err)
	}
	run(t, again...).want(t, exitFailed, "another command is starting nodes")
	run(t, "dev", "start", "n1", "--dir", dir).want(t, exitFailed, "another command is starting nodes")
	unlock()
	run(t, "dev", "start", "n1", "--dir", dir).want(t, exitOK)
}

func TestFaultsOfTheTopicsAreNamedWhereTheyStand(t *testing.T) {
	for text, says := range map[string]string{
		"[[topic]]\nnam = \"t\"\n":                               "topics.toml:2",
		"\n\n\n[[topic]]\nname = \"t\"\npartitions = 0\n":        "topics.toml:6",
		"# a comment\r\n[[topic]]\r\nname = 3\r\n":               "topics.toml:3",
		"[[topic]]\nname = \"t\"\npartitions = 4 4\n":            "topics.toml:3",
		"[[topic]]\nname = \"t\"\npartitions = 4\n\n[grup]\nx=1": "topics.toml:5",
	} {
		dir := filepath.Join(t.TempDir(), "demo")
		topics := writeFile(t, filepath.Join(t.TempDir(), "topics.toml"), text)
		run(t, devArgs(t, dir, "--topics", topics)...).want(t, exitUsage, says, "fix the file")
	}
}

func TestDevStatusEndsWithTheVerdict(t *testing.T) {
	run(t, "dev", "status", "--dir", devDirOf(t)).want(t, exitUnhealthy, "NOT OK: no node answers")
	for name, c := range map[string]struct {
		change func(*fakeSource)
		code   int
	}{
		"well":      {func(*fakeSource) {}, exitOK},
		"no quorum": {func(s *fakeSource) { s.status.Quorum = false }, exitUnhealthy},
		"unowned":   {func(s *fakeSource) { s.status.Groups[0].Unowned = 1 }, exitUnhealthy},
		"starting":  {func(s *fakeSource) { s.status = nil }, exitUnhealthy},
	} {
		dir, source := devDirOf(t), &fakeSource{status: healthy()}
		c.change(source)
		link(t, agent(t, source), filepath.Join(dir, "n2", "data", config.SocketName))
		for _, format := range []string{formatTable, formatJSON} {
			if r := run(t, "dev", "status", "--dir", dir, "-o", format); r.code != c.code {
				t.Errorf("%s, %s: code %d, want %d\n%s", name, format, r.code, c.code, r.out)
			}
		}
	}
}

func TestDevHintsCanBePasted(t *testing.T) {
	t.Chdir(t.TempDir())
	a := &App{Program: "bin/leasehold"}
	for dir, want := range map[string]string{
		devcluster.DefaultDir: "bin/leasehold dev kill n2", ".cluster": "bin/leasehold dev kill n2 --dir .cluster",
		"my demo": "bin/leasehold dev kill n2 --dir 'my demo'",
	} {
		if got := a.devLine(dir, "kill", "n2"); got != want {
			t.Error(got)
		}
	}
	startedAndStopped(t, ".cluster")
	r := run(t, "dev", "--detach", "--dir", ".cluster")
	r.want(t, exitOK, "\nType  export LEASEHOLD_ADDR=.cluster/n1/data/leasehold.sock\n", "leasehold status\n")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	r.lacks(t, here)
	t.Setenv(addrVariable, ".cluster/n1/data/leasehold.sock")
	run(t, "status").want(t, exitOK, "OK:")
}

func TestDevInItsOwnDirectoryNeedsNoVariable(t *testing.T) {
	t.Chdir(t.TempDir())
	startedAndStopped(t, devcluster.DefaultDir)
	r := run(t, "dev", "--detach")
	r.want(t, exitOK, "leasehold status\n")
	r.lacks(t, "export")
	run(t, "status").want(t, exitOK, "OK:")
	run(t, "dev", "down").want(t, exitOK)
	t.Setenv(addrVariable, "127.0.0.1:1") // Commands would go there.
	run(t, "dev", "--detach").want(t, exitOK, "export LEASEHOLD_ADDR=leasehold-dev/n1/data/leasehold.sock")
}

func TestDevAgentIsADevClusterOfOne(t *testing.T) {
	t.Chdir(t.TempDir())
	startedAndStopped(t, devcluster.DefaultDir, "--nodes", "1") // On ports that are free here.
	var errs bytes.Buffer
	out, err := os.Create("out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(os.Args[0], "agent", "--dev")
	cmd.Stdout, cmd.Stderr = out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	eventually(t, 30*time.Second, func() error {
		if r := run(t, "dev", "status"); r.code != exitOK ||
			!strings.Contains(r.out, "n1    ready (pid "+strconv.Itoa(cmd.Process.Pid)) {
			return errors.New(r.out + r.err)
		}
		text, err := os.ReadFile("out")
		if err == nil && !strings.Contains(string(text), "leasehold-dev/n1/config.toml") {
			err = fmt.Errorf("said only %q", text)
		}
		return err
	})
	run(t, "status").want(t, exitOK, "OK:")
	run(t, "agent", "--dev").want(t, exitFailed, "is already running")
	run(t, "dev", "--detach").want(t, exitFailed, "is already running")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, errs.String())
	}
	run(t, "dev", "status").want(t, exitUnhealthy, "stopped")
	run(t, "agent", "--dev", "--config", "x").want(t, exitUsage, "--dev and --config")
}

func TestDevAgentLeavesAClusterAlone(t *testing.T) {
	t.Chdir(t.TempDir())
	startedAndStopped(t, devcluster.DefaultDir)
	run(t, "agent", "--dev").want(t, exitUsage, "a cluster of 3 nodes", "leasehold dev")
}

func TestInitWritesANodeOnItsOwn(t *testing.T) {
	t.Chdir(t.TempDir())
	run(t, "init", "--single").want(t, exitOK, "Next: leasehold agent --config config.toml")
	c, err := config.Load(config.FileName)
	if err != nil || len(c.Peers()) != 0 || !strings.HasSuffix(c.Node.DataDir, "/data") {
		t.Fatalf("%v, %+v", err, c)
	}
	text, err := os.ReadFile(config.FileName)
	if err != nil {
		t.Fatal(err)
	}
	run(t, "init", "--single").want(t, exitFailed, "exists already")
	wantFile(t, config.FileName, string(text))
	run(t, "init", "--single", "--out", "my site", "--cluster-name", "plant-7").want(t, exitOK,
		"agent --config 'my site/config.toml'")
	run(t, "init", "--single", "--nodes", "n1=10.0.0.1").want(t, exitUsage, "--single and --nodes")
	run(t, "init", "--nodes", "n1=10.0.0.1", "--cluster-name", "x", "--out", "y").want(t, exitUsage, "init --single")
	run(t, "init").want(t, exitUsage, "--single")
	run(t, "agent").want(t, exitUsage, "--config config.toml") // The hint of somebody who has just made one.
}
