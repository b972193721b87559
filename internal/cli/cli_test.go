package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"leasehold/internal/admin"
	"leasehold/internal/api"
	"leasehold/internal/config"
	"leasehold/internal/devcluster"
	"leasehold/internal/node"
)

// TestMain makes the test binary a leasehold with a fake node: `dev` starts its nodes from its own executable.
func TestMain(m *testing.M) {
	if os.Getenv("LEASEHOLD_TEST_NODE") == "" {
		_ = os.Setenv("XDG_CONFIG_HOME", "/nonexistent") // The contexts of the developer are not for tests.
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := &App{Run: fakeNode, In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	os.Exit(app.Main(ctx, os.Args[1:]))
}

// fakeNode answers like a node that is ready and has nothing to do.
func fakeNode(ctx context.Context, o node.Options) error {
	c := o.Config
	if c.Groups != nil && c.Groups[0].Name == "broken" {
		return errors.New("this node is broken")
	}
	if err := os.MkdirAll(c.Node.DataDir, 0o700); err != nil {
		return err
	}
	status := healthy()
	status.Node = c.Node.Name
	s, err := api.New(api.Options{Listen: c.HTTP.Listen, Socket: c.SocketPath(), Source: &fakeSource{status: status}})
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// fakeSource can be changed while it answers.
type fakeSource struct {
	status  *api.Status
	topic   api.TopicInfo
	reasons []string
	looks   int
	onLook  func(looks int, s *api.Status)
}

func (f *fakeSource) Ready() []string { return f.reasons }

func (f *fakeSource) Topic(name string) (api.TopicInfo, bool) { return f.topic, name == f.topic.Name }

func (f *fakeSource) Status(context.Context) (*api.Status, error) {
	if f.status == nil {
		return nil, errors.New("the broker is starting")
	}
	f.looks++
	if f.onLook != nil {
		f.onLook(f.looks, f.status)
	}
	return f.status, nil
}

func lag(n int64) *int64 { return &n }

func healthy() *api.Status {
	return &api.Status{
		Cluster: "plant-7", Node: "n1", Ready: true, Quorum: true, Leader: "n1",
		Nodes:  []api.Node{{Name: "n1", State: api.NodeLive, Ready: true, Partitions: 1, Version: "0.1.0"}},
		Topics: []api.Topic{{Name: "orders", Partitions: 1, Messages: 1200, LastSeq: 1200}},
		Groups: []api.Group{{Name: "billing", Topic: "orders", Lag: lag(0),
			Partitions: []api.Partition{{Owner: "n1", Epoch: 1, Lag: lag(0), State: "held"}}}},
	}
}

// agent serves a source on a socket until the test ends and returns the socket.
func agent(t *testing.T, source api.Source) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent.sock")
	members, _ := source.(api.Membership)
	requests, _ := source.(api.Requests)
	messages, _ := source.(api.Messages)
	var explainer api.Explainer
	if sources, ok := source.(admin.Sources); ok {
		explainer = admin.Explainer{Sources: sources}
	}
	s, err := api.New(api.Options{
		Socket: socket, Source: source, Membership: members, Requests: requests, Messages: messages, Explainer: explainer,
		ChildrenChange: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-s.Started()
	return socket
}

// ran is what a command did.
type ran struct {
	code     int
	out, err string
}

func run(t *testing.T, args ...string) ran { return runWith(t, "", args...) }

func runWith(t *testing.T, stdin string, args ...string) ran {
	t.Helper()
	var out, errs bytes.Buffer
	app := &App{Run: fakeNode, In: strings.NewReader(stdin), Out: &out, Err: &errs}
	code := app.Main(t.Context(), args)
	return ran{code: code, out: out.String(), err: errs.String()}
}

// want checks the exit code and that each part is in one of the outputs.
func (r ran) want(t *testing.T, code int, parts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.out, r.err)
	}
	for _, p := range parts {
		if !strings.Contains(r.out+r.err, p) {
			t.Errorf("no %q in\nstdout: %s\nstderr: %s", p, r.out, r.err)
		}
	}
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// eventually repeats try until it succeeds; the last error is the failure text.
func eventually(t *testing.T, limit time.Duration, try func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-tick.C
	}
}

func TestStatusSaysFirstWhetherItIsFine(t *testing.T) {
	r := run(t, "status", "--addr", agent(t, &fakeSource{status: healthy()}))
	r.want(t, exitOK, "billing", "orders", "1,200")
	if !strings.HasPrefix(r.out, "OK: cluster plant-7") {
		t.Errorf("first line: %s", r.out)
	}
}

func TestStatusOfAnUnhealthyClusterHasItsCodeAndReasons(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*api.Status)
		says   string
	}{
		"no quorum":  {func(s *api.Status) { s.Quorum = false }, "no quorum"},
		"not ready":  {func(s *api.Status) { s.Ready = false }, "n1 is not ready"},
		"short disk": {func(s *api.Status) { s.Nodes[0].DiskShort = true }, "n1 is short of disk space"},
		"dead node": {func(s *api.Status) {
			s.Nodes = append(s.Nodes, api.Node{Name: "n2", State: "buried"})
		}, "n2 is dead"},
		"unowned":    {func(s *api.Status) { s.Groups[0].Unowned = 2 }, "2 partitions without an owner"},
		"stuck lane": {func(s *api.Status) { s.Groups[0].Partitions[0].Error = "exit 1" }, "exit 1"},
	} {
		s := healthy()
		c.change(s)
		r := run(t, "status", "--addr", agent(t, &fakeSource{status: s}))
		r.want(t, exitUnhealthy, c.says)
		if !strings.HasPrefix(r.out, "NOT OK: ") {
			t.Errorf("%s: first line: %s", name, r.out)
		}
	}
}

func TestStatusOfAStartingNodeSaysWhatItWaitsFor(t *testing.T) {
	run(t, "status", "--addr", agent(t, &fakeSource{reasons: []string{"waiting for n2"}})).want(t, exitUnhealthy,
		"waiting for n2")
}

func TestUntilIdleWaitsForKnownLagAndOwners(t *testing.T) {
	s := healthy()
	s.Groups[0].Lag = nil
	source := &fakeSource{status: s, onLook: func(looks int, s *api.Status) {
		switch looks {
		case 2:
			s.Groups[0].Lag, s.Groups[0].Unowned = lag(0), 1
		case 3:
			s.Groups[0].Unowned = 0
		}
	}}
	run(t, "status", "--until-idle", "--addr", agent(t, source)).want(t, exitOK, "lag unknown", "OK:")
	if source.looks < 3+idleLooks-1 {
		t.Errorf("was content after %d looks", source.looks)
	}
}

func TestUntilIdleGivesUp(t *testing.T) {
	s := healthy()
	s.Groups[0].Lag = lag(3)
	run(t, "status", "--until-idle", "--timeout", "300ms", "--addr", agent(t, &fakeSource{status: s})).
		want(t, exitTimeout, "billing: lag 3")
}

func TestNoAgentHasItsOwnCode(t *testing.T) {
	run(t, "status", "--addr", filepath.Join(t.TempDir(), "nope.sock")).want(t, exitUnreachable, "leasehold agent")
}

func TestAgentIsFoundByTheConfig(t *testing.T) {
	dir := t.TempDir()
	conf := writeFile(t, filepath.Join(dir, "config.toml"), "[node]\nname = \"n1\"\ndata_dir = \"data\"\n")
	writeFile(t, filepath.Join(dir, "data", "x"), "")
	socket := agent(t, &fakeSource{status: healthy()})
	if err := os.Symlink(socket, filepath.Join(dir, "data", config.SocketName)); err != nil {
		t.Fatal(err)
	}
	run(t, "status", "--config", conf).want(t, exitOK, "OK:")
	t.Setenv(addrVariable, "/nonexistent.sock")
	run(t, "status", "--config", conf).want(t, exitOK, "OK:")
	run(t, "status").want(t, exitUnreachable, "/nonexistent.sock")
}

func TestWrongArgumentsAreUsageErrors(t *testing.T) {
	for _, args := range [][]string{
		{"frobnicate"}, {"status", "--bogus"}, {"status", "-o", "xml"}, {"pub"}, {"pub", "t", "body", "--file", "x"},
		{"pub", "t", "--key", "a", "--key-field", "b"}, {"init"}, {"dev", "kill"}, {"status", "--timeout", "-3s"},
		{"agent", "--config", "/nonexistent/config.toml"}, {"init", "--cluster-name", "x", "--out", "y", "--nodes",
			"../n1=h"},
	} {
		if r := run(t, args...); r.code != exitUsage || r.err == "" {
			t.Errorf("%v: code %d, stderr %q", args, r.code, r.err)
		}
	}
}

func TestAgentEndsWithItsCode(t *testing.T) {
	dir := t.TempDir()
	bad := writeFile(t, filepath.Join(dir, "bad.toml"), "[node]\nnmae = \"n1\"\n")
	run(t, "agent", "--config", bad).want(t, exitUsage, "bad.toml:2", `did you mean "name"`)
	broken := writeFile(t, filepath.Join(dir, "broken.toml"),
		"[node]\nname = \"n1\"\ndata_dir = \"d\"\n[[topic]]\nname = \"t\"\npartitions = 1\n"+
			"[[group]]\nname = \"broken\"\ntopic = \"t\"\nhandler = { kind = \"log\" }\n")
	run(t, "agent", "--config", broken).want(t, exitFailed, "this node is broken")
}

func TestInitWritesConfigsThatAreValidAndOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	args := []string{"init", "--cluster-name", "plant-7", "--nodes", "n1=10.0.0.1,n2=10.0.0.2,n3=10.0.0.3:7000", "--out",
		dir}
	r := run(t, args...)
	r.want(t, exitOK, "copy to /etc/leasehold on 10.0.0.3\n") // The host to log in to, not the port of the cluster.
	r.lacks(t, ":7000")
	for _, n := range []string{"n1", "n2", "n3"} {
		c, err := config.Load(filepath.Join(dir, n, config.FileName))
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.ReadSecrets()
		if err != nil || len(s.Warnings) != 0 {
			t.Errorf("secret of %s: %v, %v", n, err, s.Warnings)
		}
		if c.Peers()[0].Address != "10.0.0.1:6222" || c.Peers()[2].Address != "10.0.0.3:7000" {
			t.Errorf("peers of %s: %v", n, c.Peers())
		}
	}
	run(t, args...).want(t, exitFailed, "exists already")
	run(t, "init", "--cluster-name", "x", "--nodes", "n1=a,n2=b", "--out", filepath.Join(dir, "y")).
		want(t, exitUsage, "2 nodes are too few")
	if _, err := os.Stat(filepath.Join(dir, "y")); err == nil {
		t.Error("a refused init left files")
	}
}

// Without --topic nothing is made that would have to be renamed or removed; with it, each topic is made as it was asked
// for.
func TestInitMakesTheTopicsThatItIsAskedFor(t *testing.T) {
	for _, c := range []struct {
		topics []string
		want   string
	}{
		{nil, "[]"}, {[]string{"orders:32"}, "[orders 32]"}, {[]string{"orders"}, "[orders 64]"},
		{[]string{"orders:1", "scans:1024"}, "[orders 1 scans 1024]"},
	} {
		dir := t.TempDir()
		args := []string{"init", "--cluster-name", "plant-7", "--nodes", "n1=10.0.0.1,n2=10.0.0.2,n3=10.0.0.3", "--out", dir}
		for _, topic := range c.topics {
			args = append(args, "--topic", topic)
		}
		run(t, args...).want(t, exitOK)
		conf, err := config.Load(filepath.Join(dir, "n2", config.FileName))
		if err != nil {
			t.Fatal(err)
		}
		var got []any
		for _, topic := range conf.Topics {
			got = append(got, topic.Name, topic.Partitions)
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%v: topics %v, want %s", c.topics, got, c.want)
		}
	}
	for _, topic := range []string{"", "a b", "orders:", "orders:0", "orders:many", "orders:9999", "dlq_x", "a\nb", "a\"b",
		":64", "orders:64:2"} {
		dir := filepath.Join(t.TempDir(), "site")
		run(t, "init", "--cluster-name", "x", "--nodes", "n1=a,n2=b,n3=c", "--out", dir, "--topic", topic).want(t, exitUsage)
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%q: a refused init left files", topic)
		}
	}
	run(t, "init", "--cluster-name", "x", "--nodes", "n1=a,n2=b,n3=c", "--out", t.TempDir(), "--topic", "orders",
		"--topic", "orders:8").
		want(t, exitUsage, "two topics of this name")
}

// The sample that init leaves as a comment is valid once the comment signs are gone.
func TestInitsSampleIsValid(t *testing.T) {
	for _, topics := range [][]string{nil, {"orders:32"}} {
		text, err := initText(topics)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for line := range strings.SplitSeq(text, "\n") {
			code, commented := strings.CutPrefix(line, "# ")
			if commented && (strings.HasPrefix(code, "[[") || strings.Contains(code, " = ")) {
				line = code
			}
			b.WriteString(line + "\n")
		}
		c, err := config.Parse("/etc/leasehold/config.toml", "[node]\nname = \"n1\"\n"+b.String())
		if err != nil || len(c.Topics) != 1 || len(c.Groups) != 1 || len(c.Warnings()) > 0 {
			t.Errorf("%v: %v in\n%s", topics, err, b.String())
		}
	}
}

func TestValidatePrintsACheckList(t *testing.T) {
	dir := t.TempDir()
	good := writeFile(t, filepath.Join(dir, "good.toml"),
		"[node]\nname = \"n1\"\ndata_dir = \"d\"\n[server]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n")
	run(t, "config", "validate", good).want(t, exitOK, "✓ data directory", "✓ http.listen free", "! there is no [[topic]]")
	bad := writeFile(t, filepath.Join(dir, "bad.toml"), "[node]\nname = \"n1\"\n[servr]\n")
	run(t, "config", "validate", bad).want(t, exitUsage, "✗ "+bad+":3", `did you mean "server"`)
	command := writeFile(t, filepath.Join(dir, "command.toml"),
		"[node]\nname = \"n1\"\ndata_dir = \"d\"\n[[topic]]\nname = \"t\"\npartitions = 1\n"+
			"[[group]]\nname = \"g\"\ntopic = \"t\"\nhandler = { kind = \"subprocess\", command = [\"no-such-program\"] }\n")
	run(t, "config", "validate", command).want(t, exitUsage, `✗ group "g": handler command`)
	run(t, "config", "validate", "--offline", command).want(t, exitOK)
}

// TestEveryCommandWithJSONPrintsJSON calls every command that has -o, and fails if one is not listed here.
func TestEveryCommandWithJSONPrintsJSON(t *testing.T) {
	addr := agent(t, &fakeRequests{fakeMembers: fakeMembers{fakeSource: fakeSource{status: healthy()}},
		letters: someLetters(3)})
	demo := devDirOf(t)
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	run(t, "context", "add", "plant-7", "--addr", addr).want(t, exitOK)
	pub := publishTo(t)
	handlers, _ := handlerConfig(t)
	good := writeFile(t, filepath.Join(t.TempDir(), "c.toml"), "[node]\nname = \"n1\"\n")
	handled := configWithHandler(t, `{ kind = "subprocess", command = ["bash", "../../examples/minimal.sh"] }`)
	calls := map[string][]string{
		"leasehold version":         {"version"},
		"leasehold node list":       {"node", "list", "--addr", addr},
		"leasehold node remove":     {"node", "remove", "n2", "--yes", "--addr", addr},
		"leasehold group list":      {"group", "list", "--addr", addr},
		"leasehold group remove":    {"group", "remove", "audit", "--yes", "--addr", addr},
		"leasehold topic list":      {"topic", "list", "--addr", addr},
		"leasehold topic remove":    {"topic", "remove", "events", "--yes", "--addr", addr},
		"leasehold status":          {"status", "--addr", addr},
		"leasehold handler test":    {"handler", "test", "billing", "--data", "{}", "--config", handlers},
		"leasehold explain":         {"explain", "orders", "1", "--addr", agent(t, ordersOf("a"))},
		"leasehold tap":             {"tap", "orders", "--addr", agent(t, ordersOf("a"))},
		"leasehold pub":             {"pub", "orders", "--key", "c-17", "{}", "--addr", pub},
		"leasehold pause":           {"pause", "billing", "--reason", "lunch", "--addr", addr},
		"leasehold resume":          {"resume", "billing", "--addr", addr},
		"leasehold seek":            {"seek", "billing", "--to", "-2h", "--yes", "--addr", addr},
		"leasehold dlq list":        {"dlq", "list", "billing", "--addr", addr},
		"leasehold dlq show":        {"dlq", "show", "billing", "1", "--addr", addr},
		"leasehold dlq requeue":     {"dlq", "requeue", "billing", "--all", "--yes", "--addr", addr},
		"leasehold dlq drop":        {"dlq", "drop", "billing", "2", "--yes", "--addr", addr},
		"leasehold dlq release":     {"dlq", "release", "billing", "--key", "c 3", "--addr", addr},
		"leasehold config validate": {"config", "validate", good, "--offline"},
		"leasehold context list":    {"context", "list"},
		"leasehold context show":    {"context", "show", "plant-7"},
		"leasehold dev status":      {"dev", "status", "--dir", demo},
	}
	calls["leasehold handler conformance"] = []string{"handler", "conformance", "--group", "billing", "--max-payload",
		"1KiB", "--config", handled}
	eachCommand((&App{}).root(), func(cmd *cobra.Command) {
		if cmd.Flags().Lookup("output") == nil {
			return
		}
		args, ok := calls[cmd.CommandPath()]
		if !ok {
			t.Errorf("%s has -o and is not tested", cmd.CommandPath())
			return
		}
		r := run(t, append(args, "-o", "json")...)
		var v any
		want := exitOK
		if cmd.CommandPath() == "leasehold dev status" {
			want = exitUnhealthy // No node of it runs.
		}
		if err := json.Unmarshal([]byte(r.out), &v); err != nil || r.code != want {
			t.Errorf("%v: code %d, %v in %s %s", args, r.code, err, r.out, r.err)
		}
	})
}

func TestErrorsAreJSONWhenAskedFor(t *testing.T) {
	bad := writeFile(t, filepath.Join(t.TempDir(), "bad.toml"), "[node]\nnmae = \"n1\"\n")
	for _, args := range [][]string{
		{"status", "--addr", "/nonexistent.sock", "-o", "json"}, {"status", "--bogus", "-o", "json"},
		{"status", "--config", bad, "-o", "json"},
		{"pub", "t", "--key", "x", "y", "--addr", "/nonexistent.sock", "-o", "json"},
	} {
		r := run(t, args...)
		var e struct {
			Error string
			Code  int
		}
		if err := json.Unmarshal([]byte(r.err), &e); err != nil || e.Code != r.code || e.Error == "" {
			t.Errorf("%v: %v in %q (exit code %d)", args, err, r.err, r.code)
		}
	}
}

func TestEveryHelpTextHasAnExample(t *testing.T) {
	eachCommand((&App{}).root(), func(cmd *cobra.Command) {
		if cmd.Example == "" || cmd.Short == "" {
			t.Errorf("%s has no example or no description", cmd.CommandPath())
		}
	})
}

func eachCommand(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, sub := range cmd.Commands() {
		if sub.Name() != "help" && sub.Name() != "completion" {
			eachCommand(sub, f)
		}
	}
}

// devDirOf makes a directory of a cluster that does not run.
func devDirOf(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for i := range 3 {
		writeFile(t, filepath.Join(dir, fmt.Sprintf("n%d", i+1), config.FileName), "")
	}
	return dir
}

func TestInterruptEndsAWaitWith130(t *testing.T) {
	n := devcluster.Node{Name: "n1", Dir: t.TempDir()}
	starting := exec.Command("sh", "-c", "read line", "agent", n.Config()) // As far as a pid file tells.
	if _, err := starting.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := starting.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = starting.Process.Kill()
		_ = starting.Wait()
	})
	if err := n.WritePID(starting.Process.Pid); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	app := &App{Err: io.Discard}
	_, idle := app.waitIdle(ctx, api.NewClient(agent(t, &fakeSource{status: healthy()})), time.Minute)
	for _, err := range []error{idle, app.waitReady(ctx, []devcluster.Node{n}, time.Minute)} {
		var e *Error
		if !errors.As(err, &e) || e.Code != exitInterrupted {
			t.Errorf("got %v, want code %d", err, exitInterrupted)
		}
	}
}
