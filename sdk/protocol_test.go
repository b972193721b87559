package sdk_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"leasehold/internal/cli"
	"leasehold/sdk"
	"leasehold/worker/handler"
	"leasehold/worker/handler/wire"
)

// The tests hold this package against the node's side of the protocol. Their own binary is the handler; the variable
// says which one.
const handlerVariable = "LEASEHOLD_SDK_TEST"

func TestMain(m *testing.M) {
	kind := os.Getenv(handlerVariable)
	if kind == "" {
		os.Exit(m.Run())
	}
	if err := sdk.Run(context.Background(), handlers[kind]); err != nil {
		fmt.Fprintln(os.Stderr, "ERROR", err)
		os.Exit(1)
	}
}

func nothing(context.Context, *sdk.Message) error { return nil }

var handlers = map[string]sdk.Handler{
	"plain":    {Handle: nothing},
	"parallel": {Handle: nothing, Parallel: true},
	"batches":  {Handle: nothing, HandleBatch: func(context.Context, []*sdk.Message) error { return nil }},
	"partial": {Handle: nothing, HandleBatch: func(context.Context, []*sdk.Message) error {
		return sdk.Partial(1, errors.New("no"))
	}},
	"everything": {
		Handle: nothing, Parallel: true, HandleBatch: func(context.Context, []*sdk.Message) error { return nil },
		Init:   func(context.Context, sdk.Init) error { return nil },
		Assign: func(context.Context, sdk.Assignment) error { return nil },
		Revoke: func(context.Context, sdk.Assignment, string) {},
	},
	"prints":  {Handle: prints},
	"panics":  {Handle: func(context.Context, *sdk.Message) error { panic("no") }},
	"results": {Handle: results},
	"broken": {Handle: nothing, Init: func(context.Context, sdk.Init) error {
		return errors.New("no database")
	}},
}

// prints writes to stdout in all the ways in which a program may do so by accident, first without a line end.
func prints(_ context.Context, m *sdk.Message) error {
	fmt.Print("handling ")
	fmt.Println(string(m.Data))
	if _, err := os.NewFile(1, "stdout").WriteString("to descriptor 1"); err != nil {
		return err
	}
	cmd := exec.Command("echo", "from a child process")
	cmd.Stdout = os.Stdout
	return cmd.Run()
}

// results fails as the message says.
func results(_ context.Context, m *sdk.Message) error {
	err := errors.New("no")
	switch string(m.Data) {
	case "retry":
		return sdk.Retry(2*time.Second, err)
	case "reject":
		return sdk.Reject(err)
	case "unavailable":
		return sdk.Unavailable(3*time.Second, err)
	case "pause":
		return sdk.Pause(err)
	}
	return err
}

// command starts this binary as a handler: children get no other variables.
func command(t *testing.T, kind string) []string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{"env", handlerVariable + "=" + kind, exe}
}

// leasehold runs a command that prints JSON.
func leasehold(t *testing.T, into any, args ...string) {
	t.Helper()
	var out, text bytes.Buffer
	app := &cli.App{In: strings.NewReader(""), Out: &out, Err: io.MultiWriter(&text, t.Output())}
	code := app.Main(t.Context(), args)
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		t.Fatalf("leasehold %q: exit code %d: %v: %s%s", args, code, err, out.String(), text.String())
	}
}

func TestHandlersPassTheConformanceCheck(t *testing.T) {
	// What is up to the handler, not to the protocol: these ones keep nothing that tells a late call.
	free := map[string]bool{"stale epoch": true}
	for _, kind := range []string{"plain", "parallel", "batches", "partial", "everything", "prints"} {
		t.Run(kind, func(t *testing.T) {
			var report struct {
				OK     bool
				Checks []struct{ Name, Verdict, Detail, Advice string }
			}
			leasehold(t, &report, append([]string{"handler", "conformance", "-o", "json", "--"}, command(t, kind)...)...)
			if !report.OK || len(report.Checks) < 15 {
				t.Errorf("%+v", report)
			}
			for _, c := range report.Checks {
				if c.Verdict != "right" && !free[c.Name] {
					t.Errorf("%+v", c)
				}
			}
		})
	}
}

type trial struct {
	Status, Reason, Next string
	AfterMS              int `json:"after_ms"`
}

// try has a node's handler call one of ours with a message.
func try(t *testing.T, kind, data string) trial {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "config.toml")
	text, err := json.Marshal(command(t, kind))
	if err != nil {
		t.Fatal(err)
	}
	text = fmt.Appendf(nil, "[node]\nname = \"n1\"\ndata_dir = \"data\"\n[[topic]]\nname = \"orders\"\npartitions = 2\n"+
		"[[group]]\nname = \"billing\"\ntopic = \"orders\"\nhandler = { kind = \"subprocess\", command = %s }\n", text)
	if err := os.WriteFile(conf, text, 0o600); err != nil {
		t.Fatal(err)
	}
	var got trial
	leasehold(t, &got, "handler", "test", "billing", "--config", conf, "-o", "json", "--data", data)
	got.Next = ""
	return got
}

func TestANodeReadsResultsAsTheyAreMeant(t *testing.T) {
	for data, want := range map[string]trial{
		"retry":       {Status: "retry", Reason: "no", AfterMS: 2000},
		"reject":      {Status: "reject", Reason: "no"},
		"unavailable": {Status: "unavailable", Reason: "no", AfterMS: 3000},
		"pause":       {Status: "pause", Reason: "no"},
		"any error":   {Status: "retry", Reason: "no"},
	} {
		if got := try(t, "results", data); got != want {
			t.Errorf("%s: got %+v, want %+v", data, got, want)
		}
	}
	if got := try(t, "panics", ""); got.Status != "retry" || got.Reason != "panic: no" {
		t.Errorf("panic: %+v", got)
	}
	if got := try(t, "broken", ""); got.Status != "unavailable" || !strings.Contains(got.Reason, "no database") {
		t.Errorf("failed Init: %+v", got)
	}
}

// TestEveryFieldOfANodesMessageIsPassedOn: a field that the node adds must get a place in Message.
func TestEveryFieldOfANodesMessageIsPassedOn(t *testing.T) {
	want := &handler.Message{
		ID: "orders/3/7", IdempotencyKey: "k", Topic: "orders", Group: "billing", Node: "n1", Partition: 3, Seq: 7, Epoch: 41,
		Attempt: 2, MaxAttempts: 8, Key: "c-17", Subject: "orders.c-17", Timeout: 1500 * time.Millisecond,
		Published: time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC), Headers: map[string][]string{"A": {"b", "c"}},
		Traceparent: "00-1-2-01", Released: true, Data: []byte("<x>\x00"),
	}
	line, err := wire.EncodeMessage(want)
	if err != nil {
		t.Fatal(err)
	}
	var got *sdk.Message
	h := sdk.Handler{Handle: func(_ context.Context, m *sdk.Message) error { got = m; return nil }}
	in := `{"v":1,"type":"init","id":"0"}` + "\n" + string(line) + `{"type":"stop","id":"1"}` + "\n"
	if err := sdk.Serve(t.Context(), h, strings.NewReader(in), io.Discard); err != nil {
		t.Fatal(err)
	}
	from, to := reflect.ValueOf(*want), reflect.ValueOf(*got)
	for i := range from.NumField() {
		name := from.Type().Field(i).Name
		if name == "Published" {
			name = "Time"
		}
		switch f := to.FieldByName(name); {
		case from.Field(i).IsZero():
			t.Errorf("%s is not set in this test", name)
		case !f.IsValid():
			t.Errorf("sdk.Message has no %s", name)
		case !reflect.DeepEqual(f.Interface(), from.Field(i).Interface()):
			t.Errorf("%s is %v, want %v", name, f, from.Field(i))
		}
	}
	var fields map[string]any
	if err := json.Unmarshal(line, &fields); err != nil {
		t.Fatal(err)
	}
	if n := to.NumField() + 1; len(fields) != n { // And its type.
		t.Errorf("a line of the node has %d fields, want %d: %v", len(fields), n, fields)
	}
}

// TestProgramsNeedNothingElse: what a handler's author imports pulls nothing in.
func TestProgramsNeedNothingElse(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if got := strings.Fields(string(out)); err != nil || len(got) != 1 {
		t.Errorf("imports %q (%v)", got, err)
	}
}

func BenchmarkServe(b *testing.B) {
	for _, parallel := range []bool{false, true} {
		b.Run(fmt.Sprintf("parallel=%t", parallel), func(b *testing.B) {
			in, node := io.Pipe()
			done := make(chan error, 1)
			answers, out := io.Pipe()
			go func() { done <- sdk.Serve(b.Context(), sdk.Handler{Handle: nothing, Parallel: parallel}, in, out) }()
			line, err := wire.EncodeMessage(&handler.Message{ID: "orders/3/7", Timeout: time.Minute, Data: make([]byte, 256)})
			if err != nil {
				b.Fatal(err)
			}
			answer := make([]byte, 1024)
			call := func(line []byte) {
				if _, err := node.Write(line); err != nil {
					b.Fatal(err)
				}
				if _, err := answers.Read(answer); err != nil {
					b.Fatal(err)
				}
			}
			call([]byte(`{"v":1,"type":"init","id":"0"}` + "\n"))
			b.ReportAllocs()
			for b.Loop() {
				call(line)
			}
			node.Close()
			if err := <-done; err != nil {
				b.Error(err)
			}
		})
	}
}
