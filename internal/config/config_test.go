package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"leasehold/internal/bytesize"
	"leasehold/internal/fielderr"
	"leasehold/server/datadir"
	"leasehold/worker"
	"leasehold/worker/handler/subprocess"
	"leasehold/worker/lane"
)

const smallest = `[node]
name = "n1"

[cluster]
name = "plant-7"
nodes = ["n1=10.0.0.11:6222", "n2=10.0.0.12:6222", "n3=10.0.0.13:6222"]
secret_file = "cluster_secret"

[[topic]]
name = "orders"
partitions = 64

[[group]]
name = "billing"
topic = "orders"
handler = { kind = "subprocess", command = ["python3", "/opt/orders/handler.py"] }
`

// load writes text to a file and loads it.
func load(t *testing.T, text string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path)
}

func mustLoad(t *testing.T, text string) *Config {
	t.Helper()
	c, err := load(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// faultsOf loads text that has faults and returns them.
func faultsOf(t *testing.T, text string) []Fault {
	t.Helper()
	_, err := load(t, text)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error", err)
	}
	return e.Faults
}

// wantFault looks for a fault of a line that says all of the parts.
func wantFault(t *testing.T, faults []Fault, line int, parts ...string) {
	t.Helper()
	for _, f := range faults {
		if f.Line == line && containsAll(f.Message, parts) {
			return
		}
	}
	t.Errorf("no fault in line %d with %q in %+v", line, parts, faults)
}

func containsAll(text string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}

func TestSmallestConfigGetsEveryDefault(t *testing.T) {
	c := mustLoad(t, smallest)
	if c.Mode() != datadir.Cluster || c.ClusterListen() != "10.0.0.11:6222" || len(c.Peers()) != 3 {
		t.Errorf("mode %s, listens on %q, peers %v", c.Mode(), c.ClusterListen(), c.Peers())
	}
	if c.Cluster.SessionTTL != 5*time.Second || c.Cluster.Renew != time.Second || c.Cluster.Margin != time.Second ||
		!c.Cluster.FastTakeover {
		t.Errorf("cluster: %+v", c.Cluster)
	}
	if topic := c.Topics[0]; topic.Subject != "orders.*" || topic.DedupWindow != 2*time.Minute {
		t.Errorf("topic: %+v", topic)
	}
	if g := c.Groups[0]; g.Timeout != 30*time.Second || g.Backoff != lane.DefaultBackoff() ||
		g.Handler.Config.(subprocess.Config).StartTimeout == 0 {
		t.Errorf("group: %+v", g)
	}
	if w := c.Warnings(); len(w) != 0 {
		t.Errorf("warnings: %v", w)
	}
}

func TestWithoutNodesTheNodeStandsAlone(t *testing.T) {
	c := mustLoad(t, "[node]\nname = \"n1\"\n")
	if c.Mode() != datadir.Single || c.Identity().Cluster != "n1" || c.ClusterListen() != "" {
		t.Errorf("mode %s, identity %+v", c.Mode(), c.Identity())
	}
}

func TestExampleLoadsAndShowsTheDefaults(t *testing.T) {
	path := "../../config.example.toml"
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	d := DefaultConfig()
	c.HTTP.TokenFile, c.Server.TLS.Names, c.HTTP.TLS.Names = "", nil, nil
	if !reflect.DeepEqual(c.Server, d.Server) || !reflect.DeepEqual(c.HTTP, d.HTTP) || c.Log != d.Log ||
		c.Node.DataDir != d.Node.DataDir {
		t.Errorf("sections differ from their defaults: %+v", c)
	}
	bare := mustLoad(t, smallest)
	c.Cluster.SecretFile, bare.Cluster.SecretFile = "", ""
	if !reflect.DeepEqual(c.Cluster, bare.Cluster) {
		t.Errorf("cluster is %+v, by default %+v", c.Cluster, bare.Cluster)
	}
	topic := c.Topics[0]
	if topic.MaxBytes != c.DefaultMaxBytes() || c.Groups[0].DLQMaxBytes != c.DefaultDLQMaxBytes() {
		t.Errorf("max_bytes is %s, by default %s; dlq_max_bytes %s, by default %s", topic.MaxBytes, c.DefaultMaxBytes(),
			c.Groups[0].DLQMaxBytes, c.DefaultDLQMaxBytes())
	}
	topic.MaxBytes, topic.RetainStated = bare.Topics[0].MaxBytes, bare.Topics[0].RetainStated
	if !reflect.DeepEqual(topic, bare.Topics[0]) {
		t.Errorf("topic is %+v, by default %+v", topic, bare.Topics[0])
	}
	group, plain := c.Groups[0], bare.Groups[0]
	plain.DLQMaxBytes = group.DLQMaxBytes
	shown, usual := group.Handler.Config.(subprocess.Config), plain.Handler.Config.(subprocess.Config)
	if shown.StartTimeout != usual.StartTimeout || shown.StopTimeout != usual.StopTimeout {
		t.Errorf("handler is %+v, by default %+v", group.Handler, plain.Handler)
	}
	group.Handler, plain.Handler = worker.HandlerConfig{}, worker.HandlerConfig{}
	if !reflect.DeepEqual(group, plain) {
		t.Errorf("group is %+v, by default %+v", group, plain)
	}
}

func TestExampleHoldsEveryKeyAndEveryHandlerKind(t *testing.T) {
	text, err := os.ReadFile("../../config.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	md, err := toml.Decode(string(text), &tree)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, k := range md.Keys() {
		there[k.String()] = true
	}
	for _, key := range keysOf(reflect.TypeFor[Config](), "") {
		if !there[key] {
			t.Errorf("config.example.toml lacks %s", key)
		}
	}
	for _, kind := range worker.Kinds() {
		if !strings.Contains(string(text), `kind = "`+kind+`"`) {
			t.Errorf("config.example.toml lacks handler kind %q", kind)
		}
		k, _ := worker.KindNamed(kind)
		for _, key := range keysOf(reflect.TypeOf(k.Config), "group.handler") {
			if !there[key] {
				t.Errorf("config.example.toml lacks %s of kind %q", key, kind)
			}
		}
	}
}

// keysOf lists the TOML keys of a struct and of the structs in it.
func keysOf(typ reflect.Type, path string) []string {
	var keys []string
	for i := range typ.NumField() {
		f := typ.Field(i)
		key := f.Tag.Get("toml")
		if key == "" {
			continue
		}
		keys = append(keys, fielderr.Join(path, key))
		inner := f.Type
		if inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct {
			keys = append(keys, keysOf(inner, fielderr.Join(path, key))...)
		}
	}
	return keys
}

func TestEveryFaultIsReportedAtOnceWithItsLine(t *testing.T) {
	faults := faultsOf(t, `[node]
name = "n1"
dta_dir = "/tmp/x"

[server]
listen = "nowhere"
max_store = 12.5
Durability = "power-safe"

[cluster]
renew = 5
timing = "moon"

[[topic]]
name = "a"
partitions = "many"

[[topic]]
name = "b"
partitions = 4
subject = "a.*"

[[group]]
name = "g"
topic = "bb"
handler = { kind = "file", path = "x",
  colour = 1 }
backoff = { initial = 3, max = "1s" }

[groups]
x = 1
[[user]]
name = "u"
`)
	wantFault(t, faults, 3, `unknown key "node.dta_dir"`, `did you mean "data_dir"`)
	wantFault(t, faults, 6, "server.listen", "nowhere")
	wantFault(t, faults, 8, "lower case", `"durability"`)
	wantFault(t, faults, 11, "cluster.renew", "unit")
	wantFault(t, faults, 12, "cluster.timing", "moon")
	wantFault(t, faults, 16, "topic.partitions", "wrong type")
	wantFault(t, faults, 14, "overlap", `topic b`)
	wantFault(t, faults, 25, "no topic", `did you mean "b"`)
	wantFault(t, faults, 26, `unknown key "group.handler.colour"`)
	wantFault(t, faults, 28, "initial")
	wantFault(t, faults, 30, `unknown key "groups"`, `did you mean "group"`)
	wantFault(t, faults, 32, `user "u": password_file`, "leasehold user nkey")
	wantFault(t, faults, 32, `user "u": publish`)
	for i := 1; i < len(faults); i++ {
		if order(faults[i].Line) < order(faults[i-1].Line) {
			t.Errorf("faults are not sorted by line: %+v", faults)
		}
	}
}

func TestHandlerTablesTakeTheKeysOfTheirKindOnly(t *testing.T) {
	for handler, want := range map[string]string{
		`kind = "subprocess", command = ["x"], path = "x"`:       `group.handler.path: is not a key of kind "subprocess"`,
		`kind = "http", url = "https://x/", command = ["x"]`:     `group.handler.command: is not a key of kind "http"`,
		`kind = "exec", command = ["x"], processes = 2`:          `group.handler.processes: is not a key of kind "exec"`,
		`kind = "file", path = "x", processes = 0`:               `group.handler.processes: is not a key of kind "file"`,
		`kind = "file", pth = "x", path = "x"`:                   `unknown key "group.handler.pth"; did you mean "path"?`,
		`kind = "pigeon", path = "x"`:                            `handler.kind: must be "subprocess", "http"`,
		`command = ["x"]`:                                        `handler.kind: must be "subprocess", "http"`,
		`kind = "discard", coop = 1`:                             `unknown key "group.handler.coop"`,
		`kind = "subprocess", command = ["x"], processes = true`: `group.handler.processes: wrong type`,
	} {
		faults := faultsOf(t, "[node]\nname = \"n1\"\n[[topic]]\nname = \"a\"\npartitions = 1\n[[group]]\nname = "+
			"\"g\"\ntopic = \"a\"\nhandler = { "+handler+" }\n")
		if len(faults) != 1 || faults[0].Line != 9 || !strings.Contains(faults[0].Message, want) {
			t.Errorf("%s: got %+v, want only %q", handler, faults, want)
		}
	}
}

func TestHandlerTableIsReadWithItsDefaults(t *testing.T) {
	c := mustLoad(t, "[node]\nname = \"n1\"\n[[topic]]\nname = \"a\"\npartitions = 1\n[[group]]\nname = \"g\"\ntopic = "+
		"\"a\"\n"+
		`handler = { kind = "subprocess", command = ["python3", "x.py"], processes = 2, `+
		`config = { a = { b = 1 }, c = [{ d = [{ e = 2 }] }] } }`)
	want := subprocess.Config{
		Command: []string{"python3", "x.py"}, Processes: 2, StartTimeout: 10 * time.Second, StopTimeout: 5 * time.Second,
		Batch: 100,
		Config: map[string]any{"a": map[string]any{"b": int64(1)},
			"c": []any{map[string]any{"d": []any{map[string]any{"e": int64(2)}}}}},
	}
	if got := c.Groups[0].Handler.Config; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestBackoffKeysLeftOutKeepTheirDefaults(t *testing.T) {
	group := "[[group]]\nname = \"x\"\ntopic = \"orders\"\nhandler = { kind = \"log\" }\n"
	c := mustLoad(t, smallest+group+"timeout = \"2s\"\nbackoff = { initial = \"1s\", jitter = 0 }\n"+
		strings.Replace(group, `"x"`, `"y"`, 1)+"backoff = {}\n")
	if got := c.Groups[1].HandoverTimeout; got != 2*time.Second {
		t.Errorf("handover_timeout is %s, want the timeout", got)
	}
	if got, want := c.Groups[1].Backoff, (lane.Backoff{Initial: time.Second, Max: time.Minute, Factor: 2}); got != want {
		t.Errorf("backoff is %+v, want %+v", got, want)
	}
	if got := c.Groups[2].Backoff; got != lane.DefaultBackoff() {
		t.Errorf("backoff is %+v, want the default", got)
	}
}

func TestBadBackoffTablesAreRefusedWithTheirLine(t *testing.T) {
	group := smallest + "[[group]]\nname = \"x\"\ntopic = \"orders\"\nhandler = { kind = \"log\" }\n"
	for text, parts := range map[string][]string{
		`backoff = { inital = "1s" }`:  {`unknown key "group.backoff.inital"`, `did you mean "initial"`},
		`backoff = { initial = 5 }`:    {"group.backoff.initial", "unit"},
		`backoff = { max = "x" }`:      {"group.backoff.max", `"x" is not a valid duration`},
		`backoff = { jitter = "x" }`:   {"group.backoff.jitter", "wrong type"},
		`backoff = "1s"`:               {"group.backoff", "must be a table"},
		`backoff = { initial = "0s" }`: {"backoff.initial: must be from 1ms"},
		`timeout = "0s"`:               {"timeout: must be from 10ms"},
	} {
		wantFault(t, faultsOf(t, group+text+"\n"), strings.Count(group, "\n")+1, parts...)
	}
}

func TestValuesInPlaceOfTablesAreRefused(t *testing.T) {
	for _, text := range []string{"server.tls = \"cluster-ca\"", "http = 3", "log = \"debug\"", "log = [1]",
		"topic = [{}, 3]", "group = \"x\""} {
		key, _, _ := strings.Cut(text, " ")
		wantFault(t, faultsOf(t, text+"\n[node]\nname = \"n1\"\n"), 1, key+": must be a")
	}
}

func TestSyntaxErrorHasItsPosition(t *testing.T) {
	faults := faultsOf(t, "[node]\nname = \"n1\nx = 1\n")
	if len(faults) != 1 || faults[0].Line != 2 || !strings.Contains(faults[0].Message, "column") {
		t.Errorf("got %+v", faults)
	}
}

func TestLinesAreFoundThroughCommentsAndLongValues(t *testing.T) {
	x := indexLines(`# a comment
a = 1

[b] # [c]
list = [
  [1, 2], # comment
  [3],
]
text = """
[not.a.table]
"""
d.e = 1
[[group]]
name = "x"
[[group]]
name = "y"
[group.handler]
kind = "log"
[group.handler.config]
k = 1
`)
	for path, want := range map[string]int{
		"a": 2, "b": 4, "b.list": 5, "b.text": 9, "b.d.e": 12, "group[0]": 13, "group[0].name": 14, "group[1].name": 16,
		"group[1].handler.kind": 18, "group[1].handler.config.k": 20, "group[1].missing": 15, "missing": 0,
	} {
		if got := x.of(path); got != want {
			t.Errorf("%s: line %d, want %d", path, got, want)
		}
	}
}

func TestClustersThatCannotWorkAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		from, to string
		line     int
		parts    []string
	}{
		"two nodes": {`, "n3=10.0.0.13:6222"]`, `]`, 6, []string{"2 nodes are too few"}},
		"one node": {`, "n2=10.0.0.12:6222", "n3=10.0.0.13:6222"]`, `]`, 6,
			[]string{"1 node is too few", "leave nodes out"}},
		"not in the list": {`name = "n1"`, `name = "n4"`, 6, []string{`"n4"`, "not in the list"}},
		"same name twice": {`"n3=`, `"n2=`, 6, []string{`two nodes "n2"`}},
		"same address":    {`10.0.0.13`, `10.0.0.12`, 6, []string{"same address"}},
		"no port":         {`10.0.0.13:6222`, `10.0.0.13`, 6, []string{"name=host:port"}},
		"no secret":       {`secret_file = "cluster_secret"`, ``, 4, []string{"cluster.secret_file"}},
		"no name":         {`name = "plant-7"`, ``, 4, []string{"cluster.name"}},
		"slow election": {`name = "plant-7"`, "name = \"plant-7\"\nsession_ttl = \"4s\"", 6,
			[]string{"4s − 1s − 1s − 500ms is 1.5s", "(2s)"}},
		"wan, lan session": {`name = "plant-7"`, "name = \"plant-7\"\ntiming = \"wan\"\nsession_ttl = \"15s\"", 7,
			[]string{"(9s)"}},
		"shared port": {`"n1=10.0.0.11:6222"`, `"n1=127.0.0.1:4222"`, 6, []string{"server.listen"}},
		"two groups": {"[[topic]]",
			"[[group]]\nname = \"billing\"\ntopic = \"orders\"\nhandler = { kind = \"log\" }\n[[topic]]", 18,
			[]string{"two groups"}},
		"odd data dir": {`name = "n1"`, "name = \"n1\"\ndata_dir = \"\"", 3, []string{"data_dir"}},
	} {
		t.Run(name, func(t *testing.T) {
			wantFault(t, faultsOf(t, strings.Replace(smallest, c.from, c.to, 1)), c.line, c.parts...)
		})
	}
}

func TestDefaultTimingsPassTheirOwnRule(t *testing.T) {
	for _, timing := range []string{"lan", "wan"} {
		mustLoad(t, strings.Replace(smallest, `name = "plant-7"`, "name = \"plant-7\"\ntiming = \""+timing+"\"", 1))
	}
}

func TestEvenNumberOfNodesIsAWarning(t *testing.T) {
	c := mustLoad(t, strings.Replace(smallest, `:6222"]`, `:6222", "n4=10.0.0.14:6222"]`, 1))
	if w := c.Warnings(); len(w) != 1 || !strings.Contains(w[0], "4 nodes") {
		t.Errorf("warnings: %v", w)
	}
}

func TestDefaultSizesDependOnMaxStoreAlone(t *testing.T) {
	text := "[node]\nname = \"n1\"\n[server]\nmax_store = \"%s\"\n"
	for _, want := range []struct {
		store      string
		topic, dlq bytesize.Size
	}{
		{"8GiB", bytesize.GiB, 256 * bytesize.MiB}, {"80GiB", 10 * bytesize.GiB, 256 * bytesize.MiB},
		{"1GiB", 128 * bytesize.MiB, 32 * bytesize.MiB}, {"64MiB", 8 * bytesize.MiB, 8 * bytesize.MiB},
	} {
		config := fmt.Sprintf(text, want.store)
		for i := range 12 { // topics and groups, each more than the last
			c := mustLoad(t, config)
			if c.DefaultMaxBytes() != want.topic || c.DefaultDLQMaxBytes() != want.dlq {
				t.Errorf("%s with %d topics: %s and %s", want.store, i, c.DefaultMaxBytes(), c.DefaultDLQMaxBytes())
			}
			config += fmt.Sprintf("[[topic]]\nname = \"t%d\"\npartitions = 1\n[[group]]\nname = \"g%d\"\ntopic = "+
				"\"t%d\"\nhandler = { kind = \"discard\" }\n", i, i, i)
		}
	}
}

func TestStatedSizesMustFitIntoMaxStore(t *testing.T) {
	text := func(topic, group string) string {
		return "[node]\nname = \"n1\"\n[server]\nmax_store = \"1GiB\"\n[[topic]]\nname = \"a\"\npartitions = 1\n" + topic +
			"[[group]]\nname = \"g\"\ntopic = \"a\"\nhandler = { kind = \"discard\" }\n" + group
	}
	wantFault(t, faultsOf(t, text("max_bytes = \"1000MiB\"\n", "")), 4, "1000MiB", "1GiB", "more than max_store")
	wantFault(t, faultsOf(t, text("", "dlq_max_bytes = \"1000MiB\"\n")), 4, "more than max_store")
	c := mustLoad(t, text("max_bytes = \"920MiB\"\n", "")) // What is left open takes what it gets.
	if c.Topics[0].MaxBytes != 920*bytesize.MiB || c.Groups[0].DLQMaxBytes != 0 {
		t.Errorf("%s and %s", c.Topics[0].MaxBytes, c.Groups[0].DLQMaxBytes)
	}
	if got := mustLoad(t, strings.Replace(text("", ""), "1GiB", "100MiB", 1)).Reserve(); got != 64*bytesize.MiB {
		t.Errorf("reserve of a small store is %s", got)
	}
}

func TestRetainIsStatedOnlyWhereItIsInTheFile(t *testing.T) {
	text := "[node]\nname = \"n1\"\n[[topic]]\nname = \"a\"\npartitions = 1\n%s\n[[topic]]\nname = \"b\"\npartitions = 1\n"
	for line, want := range map[string]bool{"": false, "retain = \"0s\"": true, "retain = \"24h\"": true} {
		c := mustLoad(t, fmt.Sprintf(text, line))
		if c.Topics[0].RetainStated != want || c.Topics[1].RetainStated {
			t.Errorf("%q: %+v", line, c.Topics)
		}
	}
}

func TestPathsStartAtTheConfigFile(t *testing.T) {
	c := mustLoad(t, "[node]\nname = \"n1\"\ndata_dir = \"data\"\n[[topic]]\nname = \"a\"\npartitions = "+
		"1\n[[group]]\nname = \"g\"\ntopic = \"a\"\nhandler = { kind = \"file\", path = \"out\" }\n")
	dir := filepath.Dir(c.Path())
	out := c.Groups[0].Handler.Resources().Directory
	if c.Node.DataDir != filepath.Join(dir, "data") || out != filepath.Join(dir, "out") {
		t.Errorf("data in %s, handler in %s", c.Node.DataDir, c.Groups[0].Handler.Resources().Directory)
	}
}

func TestSecretIsReadFromCredentialsFirst(t *testing.T) {
	c := mustLoad(t, smallest)
	beside := filepath.Join(filepath.Dir(c.Path()), "cluster_secret")
	write(t, beside, NewSecret()+NewSecret(), 0o600)
	s, err := c.ReadSecrets()
	if err != nil || s.Path != beside || len(s.Keys) != 2 || len(s.Warnings) != 0 {
		t.Errorf("beside the config: %v, %v, %v", s, s.Warnings, err)
	}
	credentials := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)
	write(t, filepath.Join(credentials, "cluster_secret"), NewSecret(), 0o644)
	s, err = c.ReadSecrets()
	if err != nil || !strings.HasPrefix(s.Path, credentials) || len(s.Keys) != 1 {
		t.Errorf("credential: %v, %v", s, err)
	}
	if len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "chmod 600") {
		t.Errorf("open file: warnings %v", s.Warnings)
	}
}

func TestSecretsOfTheWrongShapeAreRefused(t *testing.T) {
	c := mustLoad(t, smallest)
	if _, err := c.ReadSecrets(); err == nil || !strings.Contains(err.Error(), "leasehold init") {
		t.Errorf("absent: %v", err)
	}
	for name, text := range map[string]string{"typed": "hunter2\n", "short": "abcd\n", "empty": "", "three": NewSecret() +
		NewSecret() + NewSecret(), "second": NewSecret() + "x\n"} {
		write(t, c.SecretPath(), text, 0o600)
		if _, err := c.ReadSecrets(); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestEnvironmentIsLookedAtApart(t *testing.T) {
	c := mustLoad(t, strings.ReplaceAll(smallest, "10.0.0.1", "127.0.0.1"))
	c.Node.DataDir = t.TempDir()
	c.Groups[0].Handler.Config = subprocess.Config{Command: []string{"no-such-program"}}
	failed := map[string]bool{}
	for _, check := range c.CheckEnvironment(t.Context()) {
		failed[check.Name] = !check.OK
	}
	if failed["data directory"] || !failed["secret"] || !failed[`group "billing": handler command`] {
		t.Errorf("failed: %v", failed)
	}
}

// TestEnvironmentTellsOfANodeThatOthersCannotReach: its port is free, and that is not enough.
func TestEnvironmentTellsOfANodeThatOthersCannotReach(t *testing.T) {
	c := mustLoad(t, strings.ReplaceAll(smallest, "10.0.0.11:6222", "localhost:6222"))
	for advertise, want := range map[string]bool{"": true, "192.0.2.1:6222": false} {
		c.Cluster.Advertise = advertise
		for _, check := range c.CheckEnvironment(t.Context()) {
			if check.Name == "cluster address free" && check.OK &&
				strings.Contains(check.Detail, "where no other machine can connect") != want {
				t.Errorf("advertise %q: %+v", advertise, check)
			}
		}
	}
}

func TestAddressThatNobodyCanConnectToIsRefused(t *testing.T) {
	for _, bad := range []string{"0.0.0.0", "[::]", "0", "224.0.0.1"} {
		for key, text := range map[string]string{
			"cluster.nodes":     strings.ReplaceAll(smallest, "10.0.0.12", bad),
			"cluster.advertise": strings.Replace(smallest, "[cluster]\n", "[cluster]\nadvertise = \""+bad+":6222\"\n", 1),
		} {
			if _, err := load(t, text); err == nil || !containsAll(err.Error(), []string{key, bad}) {
				t.Errorf("%s in %s: %v", bad, key, err)
			}
		}
	}
}

const webhook = `[node]
name = "n1"
[[topic]]
name = "orders"
partitions = 4
[[group]]
name = "billing"
topic = "orders"
handler = { kind = "http", url = "https://billing.plant.lan/", secret_files = ["a.whsec"], bearer_file = "b.token" }
`

func TestHandlerFilesAreCheckedBeforeAnythingStarts(t *testing.T) {
	c := mustLoad(t, webhook)
	_, err := c.CheckHandlerFiles()
	var e *Error
	want := []string{`group "billing": handler.secret_files: open `, "handler.bearer_file"}
	if !errors.As(err, &e) || len(e.Faults) != 2 || !containsAll(e.Error(), want) {
		t.Errorf("absent: %v", err)
	}
	dir := filepath.Dir(c.Path())
	write(t, filepath.Join(dir, "a.whsec"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 0o600)
	write(t, filepath.Join(dir, "b.token"), "abc", 0o644)
	warnings, err := c.CheckHandlerFiles()
	want = []string{`group "billing": handler.bearer_file`, "chmod 600"}
	if err != nil || len(warnings) != 1 || !containsAll(warnings[0], want) {
		t.Errorf("there: %v, %v", warnings, err)
	}
	for _, check := range c.CheckEnvironment(t.Context()) {
		if check.Name == `group "billing": handler files` && (!check.OK || !strings.HasPrefix(check.Detail, "warning: ")) {
			t.Errorf("got %+v", check)
		}
	}
}

func TestTokenOverPlainHTTPIsAWarning(t *testing.T) {
	for url, want := range map[string]int{"https://x.lan/": 0, "http://127.0.0.1:8080/": 0, "http://localhost/": 0,
		"http://x.lan/": 1} {
		c := mustLoad(t, strings.Replace(webhook, "https://billing.plant.lan/", url, 1))
		parts := []string{`group "billing"`, "bearer_file", "unencrypted"}
		if w := c.Warnings(); len(w) != want || want > 0 && !containsAll(w[0], parts) {
			t.Errorf("%s: %v", url, w)
		}
	}
}

func TestNATSGroupThatNobodyServesIsAWarning(t *testing.T) {
	text := strings.Replace(smallest, `kind = "subprocess", command = ["python3", "/opt/orders/handler.py"]`,
		`kind = "nats"`, 1)
	parts := []string{`group "billing"`, `serve = ["billing"]`}
	if w := mustLoad(t, text).Warnings(); len(w) != 1 || !containsAll(w[0], parts) {
		t.Errorf("unserved: %v", w)
	}
	text += "[[user]]\nname = \"u\"\npassword_file = \"u.hash\"\nserve = [\"billing\"]\n"
	if w := mustLoad(t, text).Warnings(); len(w) != 0 {
		t.Errorf("served: %v", w)
	}
}

func FuzzLoadNeverPanics(f *testing.F) {
	f.Add(smallest)
	f.Add("topic = 3\n[group]\nx=1\n")
	f.Add("[[topic]]\nname=\"a\"\n[topic.x]\ny=1\n[[topic.z]]\n")
	f.Fuzz(func(_ *testing.T, text string) { _, _ = Parse("/x/config.toml", text) })
}

func TestOtherFormatsAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"node:\n  name: n1\n":            "YAML",
		"# a comment\n---\nnode: n1\n":   "YAML",
		"{\"node\": {\"name\": \"n1\"}}": "JSON",
		"<config/>":                      "XML",
	} {
		wantFault(t, faultsOf(t, text), 1, "this looks like "+want, "TOML", "leasehold init")
	}
	if faults := faultsOf(t, "[node\nname: x\n"); strings.Contains(faults[0].Message, "looks like") {
		t.Errorf("a slip in TOML is taken for another format: %+v", faults)
	}
}

func TestATextWhereAListBelongsIsShownAsOne(t *testing.T) {
	const start = "[node]\nname = \"n1\"\n[[topic]]\nname = \"t\"\npartitions = 1\n[[group]]\nname = \"g\"\ntopic = " +
		"\"t\"\n"
	wantFault(t, faultsOf(t, start+`handler = { kind = "subprocess", command = "python3 x.py" }`), 9,
		`must be a list: write ["python3", "x.py"]`)
	wantFault(t, faultsOf(t, "[node]\nname = \"n1\"\n[cluster]\nnodes = \"n1=a, n2=b\""), 4,
		`must be a list: write ["n1=a", "n2=b"]`)
}

func TestDurationsMayBeDaysAndWeeks(t *testing.T) {
	c := mustLoad(t, smallest+
		"backoff = { initial = \"1s\", max = \"1d\" }\n[[topic]]\nname = \"t\"\npartitions = 4\nretain = \"2w\"\n")
	if got := c.Topics[1].Retain; got != 14*24*time.Hour {
		t.Errorf("retain is %s", got)
	}
	if got := c.Groups[0].Backoff.Max; got != 24*time.Hour {
		t.Errorf("backoff.max is %s", got)
	}
	wantFault(t, faultsOf(t, smallest+"timeout = \"1 day\"\n"), 17, "not a valid duration", "7d")
}

func TestAByteOrderMarkMovesNoFault(t *testing.T) {
	const text = "[node]\nname = \"n 1\"\nfoo = 1\n\n[server]\nmax_payload = \"much\"\n"
	want := faultsOf(t, text)
	if len(want) < 3 || want[0].Line != 2 || want[1].Line != 3 {
		t.Fatalf("got %+v", want)
	}
	if got := faultsOf(t, "\ufeff"+text); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := faultsOf(t, "\ufeff[node]\r\nname = \r\n"); got[0].Line != 2 {
		t.Errorf("a fault of syntax: %+v", got)
	}
	mustLoad(t, "\ufeff"+smallest)
	wantFault(t, faultsOf(t, "\xff\xfe[\x00n\x00o\x00d\x00e\x00]\x00\n\x00"), 1, "UTF-16")
	wantFault(t, faultsOf(t, "[node]\nname = \"M\xfcller\"\n"), 2, "0xfc")
}

func TestPathsAreWrittenOut(t *testing.T) {
	single := "[node]\nname = \"n1\"\ndata_dir = %s\n"
	for value, want := range map[string]string{
		`"~/lh"`: "not expanded", `"~"`: "not expanded", `"~lh/data"`: "not expanded",
		`"$HOME/lh"`: "variable", `"/srv/${SITE}/lh"`: "variable", `"$STATE_DIRECTORY"`: "variable",
		`" /var/lib/lh"`: "blank", `"/var/lib/lh\n"`: "blank", `"C:\temp"`: "control character",
		`"file:///var/lib/lh"`: "URL",
	} {
		wantFault(t, faultsOf(t, fmt.Sprintf(single, value)), 3, "node.data_dir", want)
	}
	for _, value := range []string{`"/var/lib/lh"`, `"data"`, `"./~"`, `"a$"`, `"/a/$1"`, `"a b"`, `"../x~"`} {
		mustLoad(t, fmt.Sprintf(single, value))
	}
}

// TestEveryKeyThatNamesAFileIsLookedAt: one of each section, also in lists and tables in a table.
func TestEveryKeyThatNamesAFileIsLookedAt(t *testing.T) {
	faults := faultsOf(t, `[node]
name = "n1"
[server]
tls = { mode = "files", cert_file = "~/c", key_file = "$HOME/k", ca_file = "~/ca" }
[http]
token_file = "~/token"
tls = { mode = "files", cert_file = "~/c", key_file = "~/k" }
[cluster]
secret_file = "~/secret"
[[topic]]
name = "t"
partitions = 2
[[group]]
name = "files"
topic = "t"
handler = { kind = "file", path = "~/out" }
[[group]]
name = "hook"
topic = "t"
  [group.handler]
  kind = "http"
  url = "https://x/y"
  secret_files = ["a", "~/whsec"]
  bearer_file = "~/bearer"
  ca_file = "~/ca"
  cert_file = "~/cert"
  key_file = "~/key"
[[group]]
name = "run"
topic = "t"
handler = { kind = "exec", command = ["~/bin/handler", "~/argument"] }
[[user]]
name = "u"
password_file = "~/hash"
publish = ["t"]
`)
	for line, keys := range map[int][]string{
		4: {"server.tls.cert_file", "server.tls.key_file", "server.tls.ca_file"}, 6: {"http.token_file"},
		7: {"http.tls.cert_file", "http.tls.key_file"},
		9: {"cluster.secret_file"}, 16: {"handler.path"}, 23: {"secret_files", "~/whsec"}, 24: {"bearer_file"},
		25: {"ca_file"}, 26: {"cert_file"}, 27: {"key_file"},
		31: {"handler.command", "~/bin/handler"}, 34: {"password_file"},
	} {
		for _, key := range keys {
			wantFault(t, faults, line, key)
		}
	}
	for _, f := range faults {
		if strings.Contains(f.Message, "~/argument") {
			t.Errorf("an argument is the program's own business: %+v", f)
		}
	}
}
