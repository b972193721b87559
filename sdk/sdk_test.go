package sdk

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// node is the other side of a Serve.
type node struct {
	t    *testing.T
	in   *io.PipeWriter
	out  *bufio.Reader
	done chan error
}

const limit = 10 * time.Second

func serve(t *testing.T, h Handler) *node {
	t.Helper()
	return serveUntil(t.Context(), t, h)
}

func serveUntil(ctx context.Context, t *testing.T, h Handler) *node {
	t.Helper()
	inRead, inWrite := io.Pipe()
	outRead, outWrite := io.Pipe()
	n := &node{t: t, in: inWrite, out: bufio.NewReader(outRead), done: make(chan error, 1)}
	go func() {
		n.done <- Serve(ctx, h, inRead, outWrite)
		outWrite.Close()
	}()
	t.Cleanup(func() { inWrite.Close(); outRead.Close() })
	return n
}

func (n *node) say(lines ...string) {
	n.t.Helper()
	for _, l := range lines {
		if _, err := io.WriteString(n.in, l+"\n"); err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *node) hear(want string) {
	n.t.Helper()
	got, err := n.out.ReadString('\n')
	if err != nil || strings.TrimSuffix(got, "\n") != want {
		n.t.Fatalf("got %q (%v), want %q", got, err, want)
	}
}

// begin says init with a token and reads its acknowledgement.
func (n *node) begin(wants string) {
	n.t.Helper()
	n.say(initLine)
	n.hear(`{"type":"ack","id":"0","token":"tok"` + wants + `}`)
}

func (n *node) ended() error {
	n.t.Helper()
	select {
	case err := <-n.done:
		return err
	case <-time.After(limit):
		n.t.Fatal("Serve does not return")
		return nil
	}
}

const initLine = `{"v":1,"type":"init","id":"0","token":"tok","app":"leasehold/0","node":"n1","group":"g",` +
	`"topic":"t","max_batch":7,"config":{"dir":"/x"}}`

func messageLine(partition, seq int, data string) string {
	return fmt.Sprintf(`{"type":"message","id":"t/%d/%d","partition":%d,"seq":%d,"epoch":4,"attempt":1,`+
		`"timeout_ms":30000,"data":%q}`, partition, seq, partition, seq, data)
}

func ok(partition, seq int) string {
	return fmt.Sprintf(`{"type":"result","id":"t/%d/%d","token":"tok","status":"ok"}`, partition, seq)
}

func handle(f func(m *Message) error) Handler {
	return Handler{Handle: func(_ context.Context, m *Message) error { return f(m) }}
}

func TestInitPassesOnWhatTheNodeSays(t *testing.T) {
	var got Init
	h := handle(func(*Message) error { return nil })
	h.Init = func(_ context.Context, in Init) error { got = in; return nil }
	h.Parallel = true
	h.HandleBatch = func(context.Context, []*Message) error { return nil }
	n := serve(t, h)
	n.begin(`,"wants":["parallel","batch"]`)
	if got.App != "leasehold/0" || got.Node != "n1" || got.Group != "g" || got.Topic != "t" || got.MaxBatch != 7 ||
		string(got.Config) != `{"dir":"/x"}` {
		t.Errorf("%+v", got)
	}
}

func TestAFailedInitEndsServe(t *testing.T) {
	h := handle(func(*Message) error { return nil })
	broken := errors.New("no database")
	h.Init = func(context.Context, Init) error { return broken }
	n := serve(t, h)
	n.say(initLine)
	if err := n.ended(); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestResultsAreWhatTheErrorSays(t *testing.T) {
	long := strings.Repeat("é", 3000)
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, `"status":"ok"`},
		{errors.New("x"), `"status":"retry","reason":"x"`},
		{Retry(1500*time.Millisecond, errors.New("x")), `"status":"retry","reason":"x","after_ms":1500`},
		{Retry(time.Microsecond, nil), `"status":"retry","after_ms":1`},
		{Retry(-time.Hour, nil), `"status":"retry"`},
		{Reject(errors.New("<x>")), `"status":"reject","reason":"<x>"`},
		{Unavailable(time.Second, errors.New("x")), `"status":"unavailable","reason":"x","after_ms":1000`},
		{Pause(errors.New("x")), `"status":"pause","reason":"x"`},
		{fmt.Errorf("y: %w", Pause(errors.New("x"))), `"status":"pause","reason":"y: pause: x"`},
		{errors.Join(errors.New("y"), Reject(nil)), `"status":"reject","reason":"y\nreject"`},
		{&Error{Status: "done", Err: errors.New("x")}, `"status":"retry","reason":"done: x"`},
		{errors.New("a\nb\xff"), `"status":"retry","reason":"a\nb` + "\uFFFD" + `"`},
		{errors.New(long), `"status":"retry","reason":"` + long[:maxReason] + `"`},
		{errors.New("x" + long), `"status":"retry","reason":"x` + long[:maxReason-2] + `"`},
	} {
		n := serve(t, handle(func(*Message) error { return c.err }))
		n.begin("")
		n.say(messageLine(3, 7, ""))
		n.hear(`{"type":"result","id":"t/3/7","token":"tok",` + c.want + `}`)
	}
}

func TestAPanicIsAFailedAttemptAndTheNextMessageIsHandled(t *testing.T) {
	n := serve(t, handle(func(m *Message) error {
		if string(m.Data) == "bad" {
			var s []int
			_ = s[m.Seq]
		}
		return nil
	}))
	n.begin("")
	n.say(messageLine(3, 7, "bad"))
	n.hear(`{"type":"result","id":"t/3/7","token":"tok","status":"retry",` +
		`"reason":"panic: runtime error: index out of range [7] with length 0"}`)
	n.say(messageLine(3, 8, "good"))
	n.hear(ok(3, 8))
}

func TestPayloadsComeAsBytes(t *testing.T) {
	raw := "\xff\x00\xfe"
	var got []string
	n := serve(t, handle(func(m *Message) error { got = append(got, string(m.Data)); return nil }))
	n.begin("")
	n.say(messageLine(3, 7, "text"))
	n.hear(ok(3, 7))
	n.say(`{"type":"message","id":"t/3/8","data_b64":"` + base64.StdEncoding.EncodeToString([]byte(raw)) + `"}`)
	n.hear(ok(3, 8))
	if got[0] != "text" || got[1] != raw {
		t.Errorf("got %q", got)
	}
}

func TestALineOfAnyLengthIsRead(t *testing.T) {
	long := strings.Repeat("x", 9<<20)
	n := serve(t, handle(func(m *Message) error {
		if len(m.Data) != len(long) {
			return fmt.Errorf("%d bytes", len(m.Data))
		}
		return nil
	}))
	n.begin("")
	for seq := 7; seq < 9; seq++ {
		n.say(messageLine(3, seq, long))
		n.hear(ok(3, seq))
	}
}

func TestUnknownFieldsAndTypesAreIgnored(t *testing.T) {
	n := serve(t, handle(func(m *Message) error { return nil }))
	n.say(`{"v":1,"type":"later","id":{"a":1},"seq":"x"}`, "")
	n.begin("")
	n.say(`{"type":"later","id":"1","partition":"x","messages":7}`)
	n.say(`{"type":"message","id":"t/3/7","seq":7,"of_a_later_version":{"a":[1]}}`)
	n.hear(ok(3, 7))
}

func TestWhatIsNotTheProtocolEndsServe(t *testing.T) {
	for name, lines := range map[string][]string{
		"not JSON":        {"hello"},
		"no type":         {`{"v":1}`},
		"another version": {`{"v":2,"type":"init","id":"0"}`},
		"no init":         {messageLine(3, 7, "")},
		"init twice":      {initLine, initLine},
		"wrong field":     {initLine, `{"type":"message","id":7}`},
		"wrong time":      {initLine, `{"type":"message","id":"7","time":"noon"}`},
		"empty batch":     {initLine, `{"type":"batch","id":"7","messages":[]}`},
	} {
		in := strings.NewReader(strings.Join(lines, "\n") + "\n")
		if err := Serve(t.Context(), handle(func(*Message) error { return nil }), in, io.Discard); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNothingOverlapsWithoutParallel(t *testing.T) {
	var busy atomic.Int32
	enter := func() {
		if busy.Add(1) > 1 {
			t.Error("two calls at once")
		}
		runtime.Gosched()
		busy.Add(-1)
	}
	n := serve(t, Handler{
		Handle: func(context.Context, *Message) error { enter(); return nil },
		Assign: func(context.Context, Assignment) error { enter(); return nil },
		Revoke: func(context.Context, Assignment, string) { enter() },
	})
	n.begin("")
	go func() {
		for p := range 100 {
			fmt.Fprintf(n.in, `{"type":"assign","id":"a%d","partition":%d}`+"\n", p, p)
			fmt.Fprintln(n.in, messageLine(p, 7, ""))
			fmt.Fprintf(n.in, `{"type":"revoke","id":"r%d","partition":%d}`+"\n", p, p)
		}
	}()
	for p := range 100 {
		n.hear(fmt.Sprintf(`{"type":"ack","id":"a%d","token":"tok"}`, p))
		n.hear(ok(p, 7))
		n.hear(fmt.Sprintf(`{"type":"ack","id":"r%d","token":"tok"}`, p))
	}
}

func TestParallelHandlesPartitionsSideBySideAndEachInOrder(t *testing.T) {
	release := make(chan struct{})
	var mu sync.Mutex
	order := map[int][]string{}
	note := func(p int, what string) {
		mu.Lock()
		defer mu.Unlock()
		order[p] = append(order[p], what)
	}
	n := serve(t, Handler{
		Parallel: true,
		Assign:   func(_ context.Context, a Assignment) error { note(a.Partition, "assign"); return nil },
		Handle: func(_ context.Context, m *Message) error {
			if m.Partition == 0 {
				<-release
			}
			note(m.Partition, "message")
			return nil
		},
		Revoke: func(_ context.Context, a Assignment, _ string) { note(a.Partition, "revoke") },
	})
	n.begin(`,"wants":["parallel"]`)
	n.say(`{"type":"assign","id":"1","partition":0}`)
	n.hear(`{"type":"ack","id":"1","token":"tok"}`)
	n.say(messageLine(0, 7, ""), `{"type":"revoke","id":"2","partition":0}`)
	n.say(messageLine(1, 8, ""))
	n.hear(ok(1, 8))
	close(release)
	n.hear(ok(0, 7))
	n.hear(`{"type":"ack","id":"2","token":"tok"}`)
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(order[0], " "); got != "assign message revoke" {
		t.Errorf("got %q", got)
	}
}

func TestMessagesOfAPartitionThatCannotBeAssignedAreUnavailableUntilItCan(t *testing.T) {
	var calls []Assignment
	h := handle(func(*Message) error { return nil })
	h.Assign = func(_ context.Context, a Assignment) error {
		if calls = append(calls, a); len(calls) < 3 {
			return errors.New("no state")
		}
		return nil
	}
	n := serve(t, h)
	n.begin("")
	n.say(`{"type":"assign","id":"1","partition":3,"epoch":4,"next_seq":7}`)
	n.hear(`{"type":"ack","id":"1","token":"tok"}`)
	n.say(messageLine(3, 7, ""))
	n.hear(`{"type":"result","id":"t/3/7","token":"tok","status":"unavailable","reason":"assign partition 3: no state"}`)
	for seq := 7; seq < 9; seq++ {
		n.say(messageLine(3, seq, ""))
		n.hear(ok(3, seq))
	}
	if len(calls) != 3 || calls[2] != (Assignment{3, 4, 7}) {
		t.Errorf("%+v", calls)
	}
}

func TestBatchesAnswerWithWhatIsDone(t *testing.T) {
	bad := errors.New("x")
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, `"status":"ok"`},
		{bad, `"status":"retry","reason":"x"`},
		{Unavailable(0, bad), `"status":"unavailable","reason":"x"`},
		{Partial(3, nil), `"status":"ok"`},
		{Partial(2, Reject(bad)), `"status":"partial","ok_through":9,"failed":{"seq":12,"status":"reject","reason":"x"}`},
		{Partial(0, bad), `"status":"partial","failed":{"seq":7,"status":"retry","reason":"x"}`},
		{
			fmt.Errorf("y: %w", Partial(1, bad)),
			`"status":"partial","ok_through":7,"failed":{"seq":9,"status":"retry","reason":"x"}`,
		},
		{Partial(1, nil), `"status":"partial","reason":"1 messages are done","ok_through":7`},
		{Partial(0, nil), `"status":"retry","reason":"0 messages are done"`},
		{Partial(4, nil), `"status":"retry","reason":"handler says that 4 of 3 messages are done: 4 messages are done"`},
		{Partial(-1, bad), `"status":"retry","reason":"handler says that -1 of 3 messages are done: ` +
			`-1 messages are done, the next one failed: x"`},
		{Partial(3, bad), `"status":"retry","reason":"handler says that 3 of 3 messages are done: ` +
			`3 messages are done, the next one failed: x"`},
	} {
		h := handle(func(*Message) error { return errors.New("not a batch") })
		var got string
		h.HandleBatch = func(_ context.Context, ms []*Message) error {
			for _, m := range ms {
				got += fmt.Sprintf("%d=%s ", m.Seq, m.Data)
			}
			return c.err
		}
		n := serve(t, h)
		n.begin(`,"wants":["batch"]`)
		n.say(`{"type":"batch","id":"b1","partition":3,"epoch":4,"messages":[` + messageLine(3, 7, "a") + "," +
			messageLine(3, 9, "b") + "," + messageLine(3, 12, "c") + "]}")
		n.hear(`{"type":"result","id":"b1","token":"tok",` + c.want + `}`)
		if got != "7=a 9=b 12=c " {
			t.Errorf("got %q", got)
		}
	}
}

func TestACallsContextEndsAtItsTimeout(t *testing.T) {
	h := Handler{Handle: func(ctx context.Context, m *Message) error { <-ctx.Done(); return ctx.Err() }}
	n := serve(t, h)
	n.begin("")
	n.say(`{"type":"message","id":"t/3/7","timeout_ms":20}`)
	n.hear(`{"type":"result","id":"t/3/7","token":"tok","status":"retry","reason":"context deadline exceeded"}`)
}

func TestStopWaitsForCallsInFlight(t *testing.T) {
	release := make(chan struct{})
	n := serve(t, handle(func(*Message) error { <-release; return nil }))
	n.begin("")
	n.say(messageLine(3, 7, ""), `{"type":"stop","id":"8"}`)
	close(release)
	n.hear(ok(3, 7))
	n.hear(`{"type":"ack","id":"8","token":"tok"}`)
	if err := n.ended(); err != nil {
		t.Error(err)
	}
}

// blocked is a Serve with a call in flight, and what its context ended with.
func blocked(ctx context.Context, t *testing.T, h Handler) (*node, <-chan error) {
	t.Helper()
	started, cause := make(chan struct{}), make(chan error, 1)
	h.Handle = func(ctx context.Context, _ *Message) error {
		close(started)
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return nil
	}
	n := serveUntil(ctx, t, h)
	n.begin("")
	n.say(messageLine(3, 7, ""), messageLine(3, 8, ""))
	<-started
	return n, cause
}

func TestTheEndOfInputEndsCallsAndDropsTheRest(t *testing.T) {
	n, cause := blocked(t.Context(), t, Handler{})
	n.in.Close()
	go io.Copy(io.Discard, n.out)
	if err := n.ended(); err != nil || <-cause != ErrNodeGone {
		t.Errorf("got %v", err)
	}
}

func TestTheEndOfTheContextEndsServe(t *testing.T) {
	over := errors.New("over")
	ctx, cancel := context.WithCancelCause(t.Context())
	n, cause := blocked(ctx, t, Handler{})
	cancel(over)
	go io.Copy(io.Discard, n.out)
	if err := n.ended(); err != over || <-cause != over {
		t.Errorf("got %v", err)
	}
}

func TestACallThatIgnoresItsContextIsLeftAfterTheGrace(t *testing.T) {
	stuck, started := make(chan struct{}), make(chan struct{})
	h := handle(func(*Message) error { close(started); <-stuck; return nil })
	h.Grace = time.Millisecond
	n := serve(t, h)
	n.begin("")
	n.say(messageLine(3, 7, ""))
	<-started
	n.in.Close()
	if err := n.ended(); err != nil {
		t.Error(err)
	}
	go io.Copy(io.Discard, n.out)
	close(stuck)
}

func TestAnAnswerThatCannotBeWrittenEndsServe(t *testing.T) {
	in, node := io.Pipe()
	defer node.Close()
	out := &breaking{}
	done := make(chan error, 1)
	go func() { done <- Serve(t.Context(), handle(func(*Message) error { return nil }), in, out) }()
	io.WriteString(node, initLine+"\n"+messageLine(3, 7, "")+"\n")
	if err := <-done; !errors.Is(err, ErrNodeGone) || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

// breaking takes one line.
type breaking struct{ written atomic.Int32 }

func (b *breaking) Write(p []byte) (int, error) {
	if b.written.Add(1) > 1 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func TestWithoutHandleThereIsNothingToServe(t *testing.T) {
	if err := Serve(t.Context(), Handler{}, strings.NewReader(""), io.Discard); err == nil {
		t.Error("no error")
	}
}
