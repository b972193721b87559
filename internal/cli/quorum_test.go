package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"leasehold/internal/api"
)

const missing = "no quorum: 1 of 3 nodes answers; n2, n3 do not answer since 2026-11-29T13:05:07Z"

// outage is an agent that can lose its quorum.
type outage struct {
	fakeSource
	mu   sync.Mutex
	lost bool
}

func (o *outage) setLost(lost bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lost = lost
}

func (o *outage) Topic(name string) (api.TopicInfo, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	info, ok := o.fakeSource.Topic(name)
	if o.lost {
		info.NoQuorum = missing
	}
	return info, ok
}

// syncBuffer can be read while a command writes.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// outageOf is an outage of the topic of publishTo.
func outageOf(t *testing.T) (*outage, string) {
	t.Helper()
	info, err := api.NewClient(publishTo(t)).Topic(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	o := &outage{fakeSource: fakeSource{status: healthy(), topic: info}, lost: true}
	return o, agent(t, o)
}

// begin runs a command beside the test.
func begin(ctx context.Context, args ...string) (errs *syncBuffer, code <-chan int) {
	errs, ended := &syncBuffer{}, make(chan int, 1)
	app := &App{Run: fakeNode, In: strings.NewReader(""), Out: &bytes.Buffer{}, Err: errs}
	go func() { ended <- app.Main(ctx, args) }()
	return errs, ended
}

func waitText(t *testing.T, errs *syncBuffer, text string) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		if got := errs.String(); !strings.Contains(got, text) {
			return fmt.Errorf("no %q in %q", text, got)
		}
		return nil
	})
}

func TestPubWaitsForAQuorumAndThenStores(t *testing.T) {
	o, addr := outageOf(t)
	errs, code := begin(t.Context(), "pub", "orders", "hello", "--key", "k", "--addr", addr)
	waitText(t, errs, "no quorum: waiting (1 of 3 nodes answers; n2, n3 do not answer since")
	o.setLost(false)
	if got := <-code; got != exitOK {
		t.Errorf("exit code %d: %s", got, errs)
	}
}

func TestPubThatIsInterruptedWithoutAQuorumSaysThatNothingWasSent(t *testing.T) {
	_, addr := outageOf(t)
	ctx, interrupt := context.WithCancel(t.Context())
	errs, code := begin(ctx, "pub", "orders", "hello", "--key", "k", "--addr", addr)
	waitText(t, errs, "no quorum: waiting")
	interrupt()
	if got := <-code; got != exitFailed {
		t.Errorf("exit code %d: %s", got, errs)
	}
	waitText(t, errs, "Stopped: interrupted")
	run(t, "pub", "orders", "hello", "--key", "k", "--addr", addr, "--timeout", "1s").want(t, exitTimeout, "not sent 1",
		"within --timeout 1s")
}

func TestPubToASubjectThatNobodyStoresSaysSoInPlainWords(t *testing.T) {
	info, err := api.NewClient(publishTo(t)).Topic(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	r := run(t, "pub", "other", "hello", "--key", "k", "--subject", "other.*", "--server", info.Server, "--timeout", "3s")
	r.want(t, exitTimeout, "no acknowledgement yet: waiting (the topic has no leader, or does not exist)", "Stopped: ")
	if strings.Contains(r.err, "nats: ") || strings.Contains(r.err, "publisher is closed") {
		t.Errorf("raw words: %s", r.err)
	}
}

// followed is an outage whose topic is followed; its taps end when end is closed.
type followed struct {
	*outage
	*fakeMessages
	end chan struct{}
}

func (f followed) Topic(name string) (api.TopicInfo, bool)         { return f.outage.Topic(name) }
func (f followed) Status(ctx context.Context) (*api.Status, error) { return f.outage.Status(ctx) }
func (f followed) Ready() []string                                 { return nil }
func (f followed) Tap(context.Context, string, api.TapOptions) (api.MessageReader, error) {
	return f, nil
}

func (f followed) Next(ctx context.Context) (*api.Message, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-f.end:
		return nil, api.Mark(api.ErrNoQuorum, missing)
	}
}

func (f followed) Close() {}

func TestAFollowedTopicThatLosesItsQuorumSaysSo(t *testing.T) {
	orders := ordersOf("a")
	f := followed{outage: &outage{fakeSource: orders.fakeSource}, fakeMessages: orders, end: make(chan struct{})}
	errs, code := begin(t.Context(), "tap", "orders", "--follow", "--addr", agent(t, f))
	f.setLost(true)
	waitText(t, errs, "no quorum: waiting (1 of 3 nodes answers")
	f.setLost(false)
	waitText(t, errs, "there is a quorum again")
	close(f.end)
	if got := <-code; got != exitUnhealthy {
		t.Errorf("exit code %d: %s", got, errs)
	}
	waitText(t, errs, "Error: "+missing)
}

// noQuorumSource is an agent without a quorum.
type noQuorumSource struct{ fakeMembers }

func (noQuorumSource) Members(context.Context) (*api.NodeList, error) {
	return &api.NodeList{NoQuorum: missing, Nodes: []api.Member{{Name: "n2", State: api.NodeUnreachable,
		Groups: []string{}}}, Warnings: []string{}}, nil
}

func (noQuorumSource) GroupList(context.Context) (*api.GroupList, error) {
	return nil, api.Mark(api.ErrNoQuorum, missing)
}

func (noQuorumSource) TopicList(context.Context) (*api.TopicList, error) {
	return nil, fmt.Errorf("look at topic orders: %w", context.DeadlineExceeded)
}

func TestNoQuorumHasItsCodeAndItsNextStep(t *testing.T) {
	source := &noQuorumSource{}
	source.status = healthy()
	source.status.Quorum, source.status.NoQuorum, source.status.Stale = false, missing, "there is no quorum"
	source.status.Nodes[0].State, source.status.Nodes[0].LastSeen = api.NodeUnreachable, "2026-11-29T13:05:07Z"
	addr := agent(t, source)
	run(t, "node", "list", "--addr", addr).want(t, exitUnhealthy, "unreachable", "unknown", "Error: "+missing, "Next: ",
		"--local")
	run(t, "group", "list", "--addr", addr).want(t, exitUnhealthy, "Error: "+missing, "Next: ", "--local")
	run(t, "group", "list", "--addr", addr, "-o", "json").want(t, exitUnhealthy, `"error":"`+missing, `"code":10`)
	run(t, "topic", "list", "--addr", addr).want(t, exitUnhealthy, "look at topic orders: no answer in time")
	run(t, "status", "--addr", addr).want(t, exitUnhealthy, "NOT OK: "+missing, "warning: there is no quorum",
		"unreachable", "(LAST KNOWN)", "2026-11-29T13:05:07Z")
	run(t, "status", "--until-idle", "--timeout", "1s", "--addr", addr).want(t, exitTimeout, "not idle after 1s: "+missing)
}

func TestTimeoutEndsAnyCommand(t *testing.T) {
	hang := &hangingSource{}
	addr := agent(t, hang)
	for _, args := range [][]string{{"group", "list"}, {"node", "list"}, {"topic", "list"}, {"status"}} {
		run(t, append(args, "--timeout", "200ms", "--addr", addr)...).want(t, exitTimeout, "within 200ms")
	}
	for _, args := range [][]string{{"group", "list"}, {"tap", "t"}, {"explain", "t", "k"},
		{"pause", "g", "--reason", "x"}, {"dlq", "list", "g"}, {"pub", "t", "--key", "k", "x"}} {
		run(t, append(args, "--timeout", "0s", "--addr", addr)...).want(t, exitUsage, `--timeout: "0s" must be positive`)
	}
}

// hangingSource answers when its caller has gone.
type hangingSource struct{ fakeMembers }

func (hangingSource) Status(ctx context.Context) (*api.Status, error) { return wait[api.Status](ctx) }

func (hangingSource) Members(ctx context.Context) (*api.NodeList, error) {
	return wait[api.NodeList](ctx)
}

func (hangingSource) GroupList(ctx context.Context) (*api.GroupList, error) {
	return wait[api.GroupList](ctx)
}

func (hangingSource) TopicList(ctx context.Context) (*api.TopicList, error) {
	return wait[api.TopicList](ctx)
}

func wait[T any](ctx context.Context) (*T, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// The table of exit codes is a contract.
func TestTheTableOfExitCodesIsComplete(t *testing.T) {
	text, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "## Exit codes")
	table, _, _ = strings.Cut(table, "\n## ")
	got := map[int]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| .+ \|$`).FindAllStringSubmatch(table, -1) {
		code, err := strconv.Atoi(row[1])
		if err != nil || got[code] {
			t.Errorf("row %q: %v", row[0], err)
		}
		got[code] = true
	}
	all := []int{exitOK, exitFailed, exitUsage, exitUnreachable, exitNotAllowed, exitNotFound, exitTimeout, exitUnhealthy,
		exitUnsafe, exitPartly}
	for _, code := range all {
		if !got[code] {
			t.Errorf("exit code %d is not in the table", code)
		}
	}
	if len(got) < len(all) {
		t.Errorf("rows %v, codes %v", got, all)
	}
}
