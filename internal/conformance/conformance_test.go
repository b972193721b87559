package conformance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/handler/subprocess"
)

// The tests use their own binary as the handler; the variable says how it behaves.
const behaviourVariable = "LEASEHOLD_TEST_HANDLER"

func TestMain(m *testing.M) {
	if b := os.Getenv(behaviourVariable); b != "" {
		os.Exit((&subject{behaviour: b}).run())
	}
	os.Exit(m.Run())
}

// subject is a handler that is good save for one thing.
type subject struct {
	behaviour string
	token     string // Of init.
}

type request struct {
	Type, ID string
	Token    string
	Attempt  int
	Data     *string
	Later    any `json:"of_a_later_version"`
	Messages []struct{ Seq uint64 }
}

func (s *subject) is(behaviour string) bool { return s.behaviour == behaviour }

func (s *subject) run() int {
	switch {
	case s.is("dies at start"):
		fmt.Fprintln(os.Stderr, "no database here")
		return 3
	case s.is("greets"):
		fmt.Println("hello, I am a handler")
	case s.is("begins with a byte order mark"):
		fmt.Print("\ufeff")
	case s.is("ignores TERM"):
		signal.Ignore(syscall.SIGTERM)
	}
	in, out := bufio.NewReaderSize(os.Stdin, 1<<20), bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			if s.is("ignores stop") || s.is("ignores TERM") {
				time.Sleep(time.Hour)
			}
			return 0
		}
		if len(line) > 64<<10 && s.is("dies of long lines") {
			panic("token too long")
		}
		var r request
		if err := json.Unmarshal(line, &r); err != nil {
			panic(err)
		}
		if r.Token != "" && s.repeats() {
			s.token = r.Token
		}
		for _, answer := range s.answers(r) {
			fmt.Fprintln(out, s.signed(answer))
		}
		if !s.is("never flushes") {
			out.Flush()
		}
	}
}

// repeats reports whether the handler knows of tokens.
func (s *subject) repeats() bool {
	return !s.is("knows no token") && !s.is("prints payloads without a token")
}

// signed is an answer with the token, if it is one of ours.
func (s *subject) signed(answer string) string {
	switch {
	case s.token == "" || !strings.HasPrefix(answer, `{"type":`):
		return answer
	case s.is("has its own token"):
		return strings.TrimSuffix(answer, "}") + `,"token":"mine"}`
	case s.is("forgets the token") && strings.Contains(answer, "result"):
		return answer
	}
	return strings.TrimSuffix(answer, "}") + fmt.Sprintf(`,"token":%q}`, s.token)
}

func (s *subject) answers(r request) []string {
	switch r.Type {
	case "message":
		return s.results(r)
	case "batch":
		return s.batch(r)
	case "init":
		if strings.HasPrefix(s.behaviour, "batches") {
			return []string{fmt.Sprintf(`{"type":"ack","id":%q,"wants":["batch"]}`, r.ID)}
		}
		if s.behaviour == "parallel" {
			return []string{fmt.Sprintf(`{"type":"ack","id":%q,"wants":["parallel"]}`, r.ID)}
		}
		fallthrough
	case "assign", "stop":
		return []string{fmt.Sprintf(`{"type":"ack","id":%q}`, r.ID)}
	case "revoke":
		if !s.is("ignores revoke") {
			return []string{fmt.Sprintf(`{"type":"ack","id":%q}`, r.ID)}
		}
	default:
		if s.is("answers what it does not know") {
			return []string{fmt.Sprintf(`{"type":"result","id":%q,"status":"ok"}`, r.ID)}
		}
		if s.is("dies of what it does not know") {
			os.Exit(1)
		}
	}
	return nil
}

func (s *subject) results(r request) []string {
	ok := fmt.Sprintf(`{"type":"result","id":%q,"status":"ok"}`, r.ID)
	switch {
	case s.is("answers twice"):
		return []string{ok, ok}
	case s.is("answers another id"):
		return []string{`{"type":"result","id":"1","status":"ok"}`}
	case s.is("acknowledges messages"):
		return []string{fmt.Sprintf(`{"type":"ack","id":%q}`, r.ID)}
	case strings.HasPrefix(s.behaviour, "prints payloads") && r.Data != nil && len(*r.Data) < 1000:
		return []string{" " + *r.Data, ok}
	case s.is("prints"):
		return []string{"handling " + r.ID, "", `{"level":"info"}`, ok}
	case s.is("has its own status"):
		return []string{fmt.Sprintf(`{"type":"result","id":%q,"status":"done"}`, r.ID)}
	case s.is("has no status"):
		return []string{fmt.Sprintf(`{"type":"result","id":%q,"ok":true}`, r.ID)}
	case s.is("rejects all"):
		return []string{fmt.Sprintf(`{"type":"result","id":%q,"status":"reject","reason":"no order"}`, r.ID)}
	case s.is("dies of binary") && r.Data == nil:
		panic("no data")
	case s.is("dies of fields") && r.Later != nil:
		os.Exit(1)
	case s.is("handles only first attempts") && r.Attempt > 1:
		return nil
	}
	return []string{ok}
}

func (s *subject) batch(r request) []string {
	first, second, last := r.Messages[0].Seq, r.Messages[1].Seq, r.Messages[len(r.Messages)-1].Seq
	partial := func(through, failed uint64, status string) []string {
		return []string{fmt.Sprintf(`{"type":"result","id":%q,"status":"partial","ok_through":%d,`+
			`"failed":{"seq":%d,"status":%q}}`, r.ID, through, failed, status)}
	}
	switch {
	case s.is("batches in part"):
		return partial(first, second, "retry")
	case s.is("batches too much"):
		return partial(last+1, last+2, "retry")
	case s.is("batches with a hole"):
		return partial(first, last, "retry")
	case s.is("batches without a status"):
		return partial(first, second, "")
	}
	return []string{fmt.Sprintf(`{"type":"result","id":%q,"status":"ok"}`, r.ID)}
}

// check runs all checks on the handler that behaves like that.
func check(t *testing.T, behaviour string, change func(*Options)) *Report {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Handler: subprocess.Config{
			Command: []string{exe},
			Env:     map[string]string{behaviourVariable: behaviour, "GORACE": "atexit_sleep_ms=0"},
		},
		Env:     handler.Env{App: "leasehold/test", Node: "n1", Group: "conformance", Topic: "orders"},
		Timeout: 20 * time.Second, MaxPayload: 64 << 10, Key: "c-17", Payloads: [][]byte{[]byte("a"), []byte("b")},
	}
	if change != nil {
		change(&o)
	}
	r, err := Subprocess(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Checks {
		t.Logf("%s %s: %s → %s", c.Verdict, c.Name, c.Detail, c.Advice)
		if (c.Verdict == Right) != (c.Advice == "") {
			t.Errorf("%s: %s and advice %q", c.Name, c.Verdict, c.Advice)
		}
	}
	return r
}

// with lists the checks that came to a verdict, but for how long the answers took: that is the machine's affair.
func with(r *Report, v Verdict) []string {
	names := []string{}
	for _, c := range r.Checks {
		if c.Verdict == v && c.Name != "time" {
			names = append(names, c.Name)
		}
	}
	return names
}

func TestGoodHandlerHasNothingWrong(t *testing.T) {
	r := check(t, "good", nil)
	if !r.OK || r.Wrong != 0 || len(r.Checks) != len(questions)-2 { // It wants neither batches nor parallel calls.
		t.Errorf("%+v", r)
	}
	// It keeps no epoch between processes, and it is only fair to say so.
	if got := with(r, Better); !slices.Equal(got, []string{"stale epoch"}) {
		t.Errorf("could be better: %v", got)
	}
}

// Each bad handler is found out by the checks that are about its fault, and by no others.
func TestBadHandlersAreFoundOut(t *testing.T) {
	// Handlers that say nothing where they should are not waited for long.
	start := func(o *Options) { o.Handler.StartTimeout = time.Second }
	call := func(o *Options) { o.Timeout, o.MaxPayload = 3*time.Second, 1<<10 }
	stop := func(o *Options) { o.Handler.StopTimeout = time.Second }
	for _, c := range []struct {
		behaviour string
		change    func(*Options)
		wrong     []string
		better    []string
		says      string
	}{
		{"dies at start", nil, []string{"start"}, nil, "exit status 3; last stderr: no database here"},
		{"never flushes", start, []string{"start"}, nil, "flush stdout"},
		{"answers another id", nil, []string{"message"}, nil, "nobody had asked"},
		{"acknowledges messages", nil, []string{"message"}, nil, "nobody had asked"},
		{"has its own status", nil, []string{"message"}, nil, `status "done" does not exist`},
		{"has no status", nil, []string{"message"}, nil, "no status"},
		{"answers twice", nil, []string{"one answer each"}, []string{"stale epoch"}, "answered twice"},
		{"ignores stop", stop, []string{"stop"}, []string{"stale epoch"}, "SIGTERM"},
		{"ignores TERM", stop, []string{"stop"}, []string{"stale epoch"}, "had to be killed"},
		{"dies of long lines", nil, []string{"huge payload"}, []string{"stale epoch"}, "bufio.Scanner"},
		{"dies of binary", nil, []string{"binary payload"}, []string{"stale epoch"}, "data_b64"},
		{"dies of fields", nil, []string{"unknown field"}, []string{"stale epoch"}, "version 1"},
		{"dies of what it does not know", nil, []string{"unknown line"}, []string{"stale epoch"}, "version 1"},
		{"ignores revoke", call, []string{"revoke"}, []string{"stale epoch"}, "acknowledge each revoke"},
		{"handles only first attempts", call, []string{"retry", "kill -9"}, []string{"stale epoch"}, "no answer in time"},
		{"answers what it does not know", nil, nil, []string{"unknown line", "stale epoch"}, "look at the type"},
		{"prints", nil, nil, []string{"stale epoch", "stdout"}, "handling orders/0/"},
		{"greets", nil, nil, []string{"stale epoch", "stdout"}, "hello, I am a handler"},
		{"begins with a byte order mark", nil, nil, []string{"stale epoch"}, "stale epoch"},
		{"batches", nil, nil, []string{"stale epoch"}, "ok to a batch of 3"},
		{"batches", func(o *Options) { o.Handler.Batch = 2 }, nil, []string{"stale epoch"}, "ok to a batch of 2"},
		{"parallel", nil, nil, []string{"stale epoch"}, "both of two messages that were out at once"},
		{"batches in part", nil, nil, []string{"stale epoch"}, "partial to a batch of 3"},
		{"batches too much", nil, []string{"batch"}, []string{"stale epoch"}, "ok_through"},
		{"batches with a hole", nil, []string{"batch"}, []string{"stale epoch"}, "failed.seq"},
		{"batches without a status", nil, []string{"batch"}, []string{"stale epoch"}, `status ""`},
		{"knows no token", nil, nil, []string{"token", "stale epoch"}, "answers without a token"},
		{"forgets the token", call, []string{"message"}, nil, "without the token that it had acknowledged"},
		{"has its own token", nil, []string{"start"}, nil, "not that of init"},
		{"prints payloads", nil, nil, []string{"stale epoch", "stdout"}, "looks like an answer is none"},
		{"prints payloads without a token", nil, []string{"forged answer", "one answer each"},
			[]string{"token", "stale epoch"}, "has answered for its message"},
		{"rejects all", nil, nil, []string{"message", "stale epoch"}, "--message"},
	} {
		t.Run(c.behaviour, func(t *testing.T) {
			r := check(t, c.behaviour, c.change)
			if got := with(r, Wrong); !slices.Equal(got, append([]string{}, c.wrong...)) {
				t.Errorf("wrong: %q, want %q", got, c.wrong)
			}
			if got := with(r, Better); !slices.Equal(got, append([]string{}, c.better...)) {
				t.Errorf("better: %q, want %q", got, c.better)
			}
			text, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			if says, err := json.Marshal(c.says); err != nil || !bytes.Contains(text, bytes.Trim(says, `"`)) {
				t.Errorf("nothing says %q", c.says)
			}
			if r.OK != (len(c.wrong) == 0) {
				t.Errorf("ok is %v", r.OK)
			}
		})
	}
}

func TestCommandThatIsNotThere(t *testing.T) {
	r := check(t, "good", func(o *Options) { o.Handler.Command = []string{"/not/there"} })
	if len(r.Checks) != 1 || r.OK || !strings.Contains(r.Checks[0].Detail, "/not/there") {
		t.Errorf("%+v", r)
	}
}

func TestEndOfContextIsNoFinding(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Subprocess(ctx, Options{
		Handler: subprocess.Config{Command: []string{exe}, Env: map[string]string{behaviourVariable: "good"}},
		Timeout: time.Second, MaxPayload: 1, Payloads: [][]byte{nil},
	})
	if r != nil || err != context.Canceled {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestSlowAnswersAreNamed(t *testing.T) {
	if f := judgeTime(400*time.Millisecond, time.Second); f.verdict != Right {
		t.Errorf("%+v", f)
	}
	if f := judgeTime(600*time.Millisecond, time.Second); f.verdict != Better ||
		f.detail != "the slowest answer took 600ms of 1s" {
		t.Errorf("%+v", f)
	}
	b := &bench{source: source{o: Options{Timeout: time.Second}}, revoked: 2 * time.Second}
	if f := askTime(b); f.verdict != Better || f.detail != "it took 2s to give a partition back" {
		t.Errorf("%+v", f)
	}
}
