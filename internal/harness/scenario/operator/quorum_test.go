package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"leasehold/internal/harness/testcluster"
)

// quorumLimit is within what time every command and route must have said that there is no quorum. The brief is three
// seconds on an idle machine; this one runs other tests.
const quorumLimit = 10 * time.Second

// raw is what only a developer of the broker can read.
var raw = regexp.MustCompile(`nats: |no responders|context deadline|API error|err_code=|` +
	`temporarily unavailable|i/o timeout|JetStream|unexpected EOF|\$JS`)

// groupsOfQuorum are one group that works and one whose messages all become dead letters.
func groupsOfQuorum() []testcluster.Group {
	return []testcluster.Group{{Name: "calls", Topic: "orders", Handler: `{ kind = "discard" }`},
		{Name: "bad", Topic: "orders", Handler: `{ kind = "exec", command = ["false"] }`, Extra: "max_attempts = 1"}}
}

// routesOfQuorum are all routes that need a quorum, with what they are asked.
var routesOfQuorum = []struct{ method, path, body string }{
	{"GET", "/v1/groups", ""}, {"GET", "/v1/topics", ""},
	{"POST", "/v1/nodes/n2/remove", ""}, {"POST", "/v1/nodes/n2/remove?dry_run=1", ""},
	{"POST", "/v1/groups/calls/remove", ""},
	{"POST", "/v1/groups/calls/requests", `{"kind":"pause","reason":"x"}`},
	{"POST", "/v1/groups/calls/requests", `{"kind":"seek","to":"-2s"}`},
	{"POST", "/v1/groups/calls/requests", `{"kind":"seek","to":"latest","dry_run":true}`},
	{"POST", "/v1/groups/bad/requests", `{"kind":"release"}`},
	{"GET", "/v1/groups/calls/requests/1", ""}, {"GET", "/v1/groups/bad/dlq", ""},
	{"GET", "/v1/groups/bad/dlq?number=1&data=true", ""},
	{"POST", "/v1/groups/bad/dlq/requeue", `{"numbers":[1]}`}, {"POST", "/v1/groups/bad/dlq/drop", `{"numbers":[1]}`},
	{"POST", "/v1/topics/orders/messages?key=k", "x"}, {"GET", "/v1/topics/orders/messages/1", ""},
	{"GET", "/v1/topics/orders/tap", ""}, {"GET", "/v1/topics/orders/tap?follow=true", ""},
	{"GET", "/v1/topics/orders/tap?since=1h&key=k", ""},
	{"GET", "/v1/topics/orders/count?partition=0&after=0&before=9", ""},
}

// routesWithout answer without a quorum.
var routesWithout = []string{"/livez", "/readyz", "/v1/status", "/v1/nodes", "/v1/topics/orders"}

// commandsOfQuorum are all commands that ask a running node, but for those that --local reads.
var commandsOfQuorum = []string{
	"status", "status --partitions", "node list", "node remove n2 --yes", "node remove n2 --dry-run", "group list",
	"group remove calls --yes",
	"topic list", "dlq list bad", "dlq show bad 1", "dlq export bad", "dlq requeue bad --all --yes",
	"dlq requeue bad 1 --yes", "dlq drop bad --all --yes",
	"dlq release bad --all --yes", "tap orders", "tap orders --key k1 --last 3", "tap orders --follow",
	"explain orders k1", "explain orders 3",
	"pause calls --reason x", "resume calls", "seek calls --to -2s --dry-run", "seek calls --to latest --yes",
}

// call asks one route over the node's socket and returns the code, the headers and the body.
func call(n *testcluster.Node, method, path, body string) (*http.Response, string, error) {
	req, err := http.NewRequest(method, "http://agent"+path, strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	dial := func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", filepath.Join(n.Host.DataDir, "leasehold.sock"))
	}
	client := &http.Client{Timeout: quorumLimit, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

// checkRoutes has every route say that there is no quorum, and who is missing.
func checkRoutes(n *testcluster.Node) {
	t := n.Cluster.T
	t.Helper()
	const text = "no quorum: 1 of 3 nodes answers; n2, n3 do not answer since "
	for _, r := range routesOfQuorum {
		resp, body, err := call(n, r.method, r.path, r.body)
		var f struct {
			Error    string `json:"error"`
			NoQuorum bool   `json:"no_quorum"`
		}
		switch {
		case err != nil:
			t.Errorf("%s %s: %v", r.method, r.path, err)
		case json.Unmarshal([]byte(body), &f) != nil, resp.StatusCode != http.StatusServiceUnavailable,
			resp.Header.Get("Retry-After") == "", !f.NoQuorum, !strings.HasPrefix(f.Error, text):
			t.Errorf("%s %s: %d, Retry-After %q: %s", r.method, r.path, resp.StatusCode, resp.Header.Get("Retry-After"), body)
		}
		if raw.MatchString(body) {
			t.Errorf("%s %s speaks the broker's language: %s", r.method, r.path, body)
		}
	}
	for _, path := range routesWithout {
		_, body, err := call(n, "GET", path, "")
		if err != nil || raw.MatchString(body) {
			t.Errorf("%s: %s, %v", path, body, err)
		}
		if names := strings.Contains(body, "n2") && strings.Contains(body, "n3"); !names && path != "/livez" {
			t.Errorf("%s does not say who is missing: %s", path, body)
		}
	}
}

// checkCommands has every command say so, with the documented exit code.
func checkCommands(n *testcluster.Node) {
	t := n.Cluster.T
	t.Helper()
	for _, line := range commandsOfQuorum {
		begun := time.Now()
		code, out := n.Command(strings.Fields(line)...)
		if code != 10 || !strings.Contains(out, "no quorum: 1 of 3 nodes answers; n2, n3 do not answer since ") ||
			raw.MatchString(out) {
			t.Errorf("%s: exit code %d:\n%s", line, code, out)
		}
		if took := time.Since(begun); took > quorumLimit {
			t.Errorf("%s took %s", line, took)
		}
	}
}

// checkLocal reads what this node holds, by itself.
func checkLocal(n *testcluster.Node, messages int) {
	t := n.Cluster.T
	t.Helper()
	n.Want(0, []string{"Warning: this is the replica of one node", "exported " + fmt.Sprint(messages) + " dead letters"},
		"dlq", "export", "bad", "--local")
	n.Want(0, []string{"max_attempts", fmt.Sprintf("orders/0/%d ", messages)}, "dlq", "list", "bad", "--local")
	n.Want(0, []string{"max_attempts", `"number": 2`}, "dlq", "show", "bad", "2", "--local", "-o", "json")
	n.Want(5, []string{"there is no dead letter 99"}, "dlq", "show", "bad", "99", "--local")
	n.Want(5, []string{"node n1 has no replica of the dead letters"}, "dlq", "list", "nobody", "--local")
	n.Want(5, []string{`no topic "nothing"`}, "tap", "nothing", "--local")
	n.Want(2, nil, "tap", "orders", "--local", "--follow")
	code, out := n.Command("tap", "orders", "--local", "--from-seq", "1", "-o", "json")
	if lines := strings.Count(out, `{"id":"orders/0/`); code != 0 || lines != messages {
		t.Errorf("tap --local: exit code %d, %d messages of %d:\n%s", code, lines, messages, out)
	}
	code, out = n.Command("tap", "orders", "--local", "--last", "2", "-o", "json")
	if lines := strings.Count(out, `{"id":"orders/0/`); code != 0 || lines != 2 ||
		!strings.Contains(out, fmt.Sprintf(`"seq":%d,`, messages)) {
		t.Errorf("tap --local --last 2: exit code %d:\n%s", code, out)
	}
}

// TestWithoutAQuorumEverythingSaysWhoIsMissing loses two of three nodes, and then restarts the third.
func TestWithoutAQuorumEverythingSaysWhoIsMissing(t *testing.T) {
	c := testcluster.New(t, testcluster.Spec{Topics: []testcluster.Topic{{Name: "orders", Partitions: 1,
		Extra: `retain = "1h"`}}, Groups: groupsOfQuorum()})
	n1 := c.Nodes[0]
	c.StartAll(testcluster.StartLimit)
	const messages = 2
	for i := range messages {
		n1.Want(0, []string{"stored 1"}, "pub", "orders", "--key", fmt.Sprintf("k%d", i), "hello")
	}
	n1.WaitOutput(testcluster.MoveLimit, 0, []string{fmt.Sprintf("orders/0/%d ", messages)}, "dlq", "list", "bad",
		"--local")
	checkHealthy(n1)

	c.Nodes[1].Kill()
	c.Nodes[2].Kill()
	n1.WaitOutput(testcluster.MoveLimit, 10, []string{"n2, n3 do not answer since", "; n1 is not ready"}, "status")
	checkRoutes(n1)
	checkCommands(n1)
	checkLocal(n1, messages)
	checkStatus(n1, "LAST KNOWN")
	checkPub(n1)

	n1.Kill()
	n1.Start()
	n1.WaitOutput(testcluster.StartLimit, 10, []string{"n2, n3 do not answer since the start of this node"}, "group",
		"list")
	checkRoutes(n1)
	checkCommands(n1)
	checkLocal(n1, messages)
	checkStatus(n1, "")

	c.Nodes[1].Start()
	n1.WaitOutput(testcluster.StartLimit, 0, []string{"n3", "orders"}, "topic", "list", "-o", "wide")
}

// checkHealthy has the commands end as docs/cli.md says where nothing is wrong.
func checkHealthy(n *testcluster.Node) {
	for _, c := range []struct {
		code int
		line string
	}{
		{0, "node list"}, {0, "group list"}, {0, "topic list"}, {0, "dlq list bad"}, {0, "dlq list bad --timeout 1m"},
		{0, "tap orders"}, {0, "explain orders k1"},
		{0, "pause calls --reason x"}, {0, "resume calls"}, {0, "seek calls --to latest --dry-run"},
		{0, "dlq requeue bad --all --dry-run"}, {5, "dlq show bad 99"}, {5, "dlq list nobody"}, {5, "tap nothing"},
		{5, "node remove n9 --yes"},
		{11, "node remove n2 --yes"}, {11, "group remove calls --yes"}, {2, "tap orders --timeout 0s"},
		{2, "seek calls --to soon"},
		{6, "tap orders --follow --timeout 300ms"}, {2, "pub orders --key k9 x --timeout -1s"},
		{2, "status --watch --timeout 1s"},
	} {
		code, out := n.Command(strings.Fields(c.line)...)
		if code != c.code || raw.MatchString(out) {
			n.Cluster.T.Errorf("%s: exit code %d, want %d:\n%s", c.line, code, c.code, out)
		}
	}
}

// checkStatus checks that no node that does not answer passes for live.
func checkStatus(n *testcluster.Node, mark string) {
	n.Want(10, []string{"unreachable", "waiting", mark}, "status")
	s, err := n.Status()
	if err != nil {
		n.Cluster.T.Fatal(err)
	}
	for _, other := range s.Nodes {
		if want := map[string]string{"n1": "waiting"}[other.Name]; other.State != "unreachable" && other.State != want ||
			other.Ready {
			n.Cluster.T.Errorf("%+v", other)
		}
	}
	if s.Quorum || s.Leader != "" && mark == "" {
		n.Cluster.T.Errorf("quorum is %t, leader %q", s.Quorum, s.Leader)
	}
}

// checkPub has publishing wait, say for what, and end as asked.
func checkPub(n *testcluster.Node) {
	n.Want(6, []string{"no quorum: waiting (1 of 3 nodes answers; n2, n3 do not answer since", "not sent 1",
		"--timeout 2s"}, "pub", "orders", "--key", "k", "--timeout", "2s", "hello")
}
