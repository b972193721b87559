package cli

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// TestHelpShowsOnlyFlagsThatACommandUses holds that no command shows the flags of the connection and asks no agent.
func TestHelpShowsOnlyFlagsThatACommandUses(t *testing.T) {
	for path, flags := range ownConnection {
		found := path == "leasehold completion" || path == "leasehold help"
		eachCommand((&App{}).root(), func(cmd *cobra.Command) {
			if cmd.CommandPath() != path && !strings.HasPrefix(cmd.CommandPath(), path+" ") {
				return
			}
			found = true
			r := run(t, append(strings.Fields(cmd.CommandPath())[1:], "--help")...)
			if _, own := ownConnection[cmd.CommandPath()]; own && cmd.CommandPath() != path {
				return
			}
			for _, name := range connectionFlags {
				want := slices.Contains(flags, name)
				if got := strings.Contains(r.out, "\n      --"+name+" "); got != want && !isGroup(cmd) {
					t.Errorf("%s shows --%s: %v, want %v", cmd.CommandPath(), name, got, want)
				}
			}
		})
		if !found {
			t.Errorf("there is no %q", path)
		}
	}
	for _, args := range []string{"status", "dlq list", "pub", "handler test", "topic list", "explain"} {
		run(t, append(strings.Fields(args), "--help")...).want(t, exitOK, "Which agent:", "--addr", "--config",
			"--token-file", "--tls-ca")
	}
	for _, args := range []string{"dlq", "user", "version", "dev kill", "completion bash", "init"} {
		if r := run(t, append(strings.Fields(args), "--help")...); strings.Contains(r.out, "--addr") || r.code != exitOK {
			t.Errorf("%s: %d, %s", args, r.code, r.out)
		}
	}
	if r := run(t, "group", "--help"); !strings.Contains(r.out, "leasehold group COMMAND") ||
		strings.Contains(r.out, "leasehold group [flags]") {
		t.Errorf("usage: %s", r.out)
	}
}

func TestFlagsOfTheConnectionMayStandBeforeTheCommand(t *testing.T) {
	run(t, "--addr", agent(t, &fakeSource{status: healthy()}), "status").want(t, exitOK, "OK:")
}

func TestSinceTakesTheSameEverywhere(t *testing.T) {
	f := ordersOf("a")
	addr := agent(t, f)
	for _, since := range []string{"10m", "-10m", time.Now().Add(-10 * time.Minute).UTC().Format(time.RFC3339)} {
		run(t, "tap", "orders", "--since", since, "--addr", addr).want(t, exitOK)
		if d := f.tapped.Since; d < 9*time.Minute || d > 12*time.Minute {
			t.Errorf("%s: taps from %s ago", since, d)
		}
		run(t, "dlq", "list", "billing", "--since="+since, "--addr", addr).want(t, exitOK)
	}
}

func TestNodesWithoutCommasAreToldOfThem(t *testing.T) {
	for _, nodes := range []string{"n1=a n2=b n3=c", "n1=a;n2=b;n3=c", "n1=a, n2=b n3=c", "n1=a\nn2=b\nn3=c"} {
		run(t, "init", "--cluster-name", "x", "--out", "y", "--nodes", nodes).want(t, exitUsage,
			"separate nodes by commas: n1=a,n2=b,n3=c")
	}
}

func TestHintsNameTheGroup(t *testing.T) {
	_, addr := requestsAgent(t, 3)
	run(t, "dlq", "show", "billing", "99", "--addr", addr).want(t, exitNotFound,
		"`leasehold dlq list billing` shows what there is")
	for _, args := range [][]string{{"dlq", "list", "nope"}, {"dlq", "export", "nope"}} {
		r := run(t, append(args, "--addr", addr)...)
		r.want(t, exitNotFound, "Next: `leasehold group list` shows the groups")
		if strings.Contains(r.err, "dlq list nope") {
			t.Errorf("%v: the hint leads back to the same error:\n%s", args, r.err)
		}
	}
}

func TestAWrongTokenAndAWrongSchemeAreTold(t *testing.T) {
	guarded := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"this needs the token of http.token_file"}`)
	}))
	defer guarded.Close()
	file := writeFile(t, filepath.Join(t.TempDir(), "token"), "wrong")
	run(t, "status", "--addr", guarded.URL).want(t, exitNotAllowed, "this needs the token",
		"give the token with --token-file")
	run(t, "status", "--addr", guarded.URL, "--token-file", file).want(t, exitNotAllowed, "the token does not match",
		"that node's http.token_file")
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // It tells of each client without TLS.
	secure.StartTLS()
	defer secure.Close()
	host := strings.TrimPrefix(secure.URL, "https://")
	run(t, "status", "--addr", "http://"+host).want(t, exitUnreachable, "it speaks TLS, use https://"+host)
	run(t, "status", "--addr", host).want(t, exitUnreachable, "it speaks TLS, use https://"+host)
	plain := strings.TrimPrefix(guarded.URL, "http://")
	run(t, "status", "--addr", "https://"+plain).want(t, exitUnreachable, "it does not speak TLS, use http://"+plain)
}

func TestVersionHasItsFlags(t *testing.T) {
	line := thisVersion().line() + "\n"
	for _, args := range []string{"--version", "-v"} {
		if r := run(t, args); r.code != exitOK || r.out != line {
			t.Errorf("%s: %+v", args, r)
		}
	}
	run(t, "version").want(t, exitOK, line)
}

func TestHelpOfACommand(t *testing.T) {
	run(t, "help", "dlq", "list").want(t, exitOK, "leasehold dlq list GROUP")
	run(t, "help").want(t, exitOK, "leasehold COMMAND")
	for _, args := range []string{"help nosuch", "help dlq nosuch", "completion csh", "completion bash extra"} {
		run(t, strings.Fields(args)...).want(t, exitUsage, "Error: ")
	}
}

// TestWrongInputsSayWhatIsRight has what operators typed, each refused with code 2 before any agent is asked.
func TestWrongInputsSayWhatIsRight(t *testing.T) {
	for _, c := range []struct {
		args string
		says string
	}{
		{"node remove", "missing NAME; usage: leasehold node remove NAME"},
		{"dlq list", "missing GROUP; usage: leasehold dlq list GROUP"},
		{"dlq requeue", "missing GROUP; usage"},
		{"explain", "missing TOPIC and KEY|ID; usage"},
		{"explain x", "missing KEY|ID; usage"},
		{"explain x y z", `"z" is one argument too many`},
		{"pub", "missing TOPIC; usage"},
		{"pub a b c", `"c" is one argument too many`},
		{"config validate a b", `"b" is one argument too many`},
		{"dlq lst billing --config x", `unknown command "lst" for "leasehold dlq"; did you mean "list"?`},
		{"user tokn --addr x", `did you mean "token"?`},
		{"status extra", `leasehold status takes no arguments, got "extra"`},
		{"agent x", `leasehold agent takes no arguments, got "x"`},
		{"dev statsu", `unknown command "statsu" for "leasehold dev"; did you mean "status"?`},
		{"statsu", `did you mean`},
		{"node rm", `did you mean "remove"?`},
		{"group delete", `did you mean "remove"?`},
		{"group ls", `did you mean "list"?`},
		{"status --partitons", "did you mean --partitions?"},
		{"dlq list g --limt 3", "did you mean --limit?"},
		{"status --zzz", "unknown flag: --zzz"},
		{"pub orders x --rate abc", `--rate: "abc" must be a whole number`},
		{"tap orders --from-seq -1", `--from-seq: "-1" is not a whole number from 0`},
		{"status --until-idle --timeout 5", `--timeout: "5" is not a valid duration: write one like 10m, 24h or 7d`},
		{"status --until-idle --timeout -5s", `--timeout: "-5s" must not be negative`},
		{"tap orders --since 1d --last 3", "--last and --since exclude each other"},
		{"status --watch --until-idle", "--watch and --until-idle exclude each other"},
		{"handler test g", "one of --data, --message, --seq is missing"},
		{"dev start n1 --timeout 0", `--timeout: "0" must be positive`},
		{"status --group=", `--group: "" must not be empty`},
		{"tap orders --key=", `--key: "" must not be empty`},
		{"dev --nats-port 0", "must be a whole number, at least 1"},
		{"handler test g --data x --attempt 0", "must be a whole number, at least 1"},
		{"seek g --to 7d", `--to: "7d" is not earliest, latest`},
		{"pause g --reason x --wait -1m", `--wait: "-1m" must not be negative`},
		{"tap orders --partition -3", "must be a whole number, at least 0"},
		{"dlq list g --limit -5", "must be a whole number, at least 1"},
		{"dlq show g -1", "numbers here are positive"},
		{"status -o yaml", `unknown output format "yaml": use table, wide`},
		{"init --cluster-name x --out y --nodes n1=a,n2=b", "--nodes: 2 nodes are too few for a cluster"},
		{"init --cluster-name x --out y --nodes n1=a", "--nodes: one node is too few"},
		{"pub orders x", "the message needs a key"},
		{"pub orders x --key=", "which must not be empty"},
		{"seek g --to seq:-1", `--to: "seq:-1" is not earliest, latest`},
		{"seek g --to seq:0", `--to: "seq:0" is not`},
		{"seek g --to yesterday", `--to: "yesterday" is not`},
		{"seek g --to time:2026-01-02", `--to: "time:2026-01-02" is not`},
		{"seek g --to +2h", `--to: "+2h" is not`},
		{"dlq list g --kind foo", `--kind "foo": use dead or parked`},
		{"dlq list g --reason foo", `--reason "foo": use rejected, max_attempts or parked`},
		{"dlq list g --limit 0", "must be a whole number, at least 1"},
		{"tap orders --since noon", `--since "noon" is not a time like 2026-01-02T15:04:05Z, or a duration`},
		{"tap orders --since 0s", `--since "0s" is not a time`},
		{"dlq list g --since 2099-01-01T00:00:00Z", "is not in the past"},
		{"version -o wide", `unknown output format "wide": use table or json`},
	} {
		r := run(t, strings.Fields(c.args)...)
		r.want(t, exitUsage, c.says)
		if !strings.HasPrefix(r.err, "Error: ") || strings.Contains(r.err, "strconv") || strings.Contains(r.err, "arg(s)") {
			t.Errorf("%s: %q", c.args, r.err)
		}
	}
}
