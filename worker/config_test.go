package worker

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"leasehold/worker/handler/exec"
	"leasehold/worker/handler/subprocess"
	"leasehold/worker/handler/webhook"
	"leasehold/worker/lane"

	"github.com/BurntSushi/toml"
)

// decode reads one [[group]] table.
func decode(t *testing.T, text string) (Config, error) {
	t.Helper()
	var file struct {
		Group []Config `toml:"group"`
	}
	if _, err := toml.Decode("[[group]]\n"+text, &file); err != nil {
		return Config{}, err
	}
	return file.Group[0].WithDefaults(), nil
}

func TestConfigDefaults(t *testing.T) {
	got, err := decode(t, `
name = "billing"
topic = "orders"`)
	if err != nil {
		t.Fatal(err)
	}
	got.Handler = HandlerConfig{Kind: "subprocess", Config: subprocess.Config{Command: []string{"python3", "x.py"},
		Processes: 2}}
	got = got.WithDefaults()
	want := Config{
		Name: "billing", Topic: "orders", Start: "earliest",
		Handler: HandlerConfig{Kind: "subprocess", Config: subprocess.Config{
			Command: []string{"python3", "x.py"}, Processes: 2, StartTimeout: 10 * time.Second, StopTimeout: 5 * time.Second,
			Batch: 100,
		}},
		CommitInterval: 100 * time.Millisecond, Commit: "interval", Timeout: 30 * time.Second, MaxAttempts: 8,
		Backoff:     lane.Backoff{Initial: 500 * time.Millisecond, Max: time.Minute, Factor: 2, Jitter: 0.2},
		OnExhausted: "dead_letter", HandoverTimeout: 30 * time.Second,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

func TestConfigReportsEveryFaultByItsKey(t *testing.T) {
	c := Config{
		Name: "_x", Start: "now", Commit: "never", CommitInterval: time.Hour, Timeout: -1, HandoverTimeout: -1,
		MaxAttempts: -1,
		OnExhausted: "skip", DLQMaxBytes: -1, Backoff: lane.Backoff{Initial: time.Minute, Max: time.Second,
			Factor: math.NaN(), Jitter: 1},
		Handler: HandlerConfig{Kind: "subprocess", Config: subprocess.Config{
			Processes: -1, StartTimeout: -1, StopTimeout: -1,
			Env: map[string]string{"A=B": ""}, PassEnv: []string{""}, Config: map[string]any{"x": math.Inf(1)},
		}},
	}.WithDefaults()
	err := c.Validate()
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, want := range []string{
		`group "_x": name: must`, `group "_x": topic: must`, `start: must be "earliest" or "latest", is "now"`,
		`commit: must be "interval" or "each"`, `commit_interval: must be from 10ms to 1m0s, is 1h0m0s`,
		`: timeout: must`, `handover_timeout: must`, `max_attempts: must be at least 1, is -1`,
		`on_exhausted: must be "dead_letter", "block" or "park_key", is "skip"`, `dlq_max_bytes: must not be negative`,
		`backoff.max: must not be less than`,
		`backoff.factor: must`, `backoff.jitter: must`, `handler.command: must name a program`, `handler.processes: must`,
		`handler.start_timeout: must`, `handler.stop_timeout: must`,
		`handler.env: "A=B" is not a valid name`, `handler.env: "" is not a valid name`, `handler.config: cannot be sent`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no fault %q in:\n%v", want, err)
		}
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 20 {
		t.Errorf("%d faults, want 20:\n%v", n, err)
	}
}

func TestConfigKnowsHandlerKinds(t *testing.T) {
	for kind, want := range map[string]string{
		"":       `handler.kind: must be "subprocess", "http", "nats", "exec", "file", "log" or "discard", is ""`,
		"pigeon": `handler.kind: must be`,
		"file":   `handler.path: must name a directory`,
	} {
		c := Config{Name: "g", Topic: "t", Handler: HandlerConfig{Kind: kind}}.WithDefaults()
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("kind %q: got %v, want only %q", kind, err, want)
		}
	}
}

func TestGroupNamesAreSafeEverywhere(t *testing.T) {
	for name, ok := range map[string]bool{
		"billing": true, "B-2_x": true, "9": true, strings.Repeat("x", 64): true,
		"": false, "_x": false, "a.b": false, "a b": false, "a/b": false, "ä": false, "*": false,
		strings.Repeat("x", 65): false,
	} {
		c := Config{Name: name, Topic: "t", Handler: HandlerConfig{Kind: "discard"}}.WithDefaults()
		if err := c.Validate(); (err == nil) != ok {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

func TestConfigRefusesWhatAnHTTPHandlerCannotUse(t *testing.T) {
	for want, h := range map[string]webhook.Config{
		`handler.url: must be a URL`:            {},
		`handler.url: must be a URL like`:       {URL: "ftp://x/"},
		`handler.url: must not hold a user`:     {URL: "http://me:pass@x/"},
		`handler.url: begins with http://, and`: {URL: "http://x/", CAFile: "ca.pem"},
		`handler.cert_file: goes together with`: {URL: "https://x/", CertFile: "c.pem"},
		`handler.ok_status: must list`:          {URL: "https://x/", OKStatus: []int{200}},
		`"Authorization" would be a secret`: {URL: "https://x/",
			Headers: map[string]string{"Authorization": "Basic x"}},
		`"leasehold-epoch" is not to be set`: {URL: "https://x/",
			Headers: map[string]string{"leasehold-epoch": "9"}},
		`"Content-Length" is not to be set`: {URL: "https://x/",
			Headers: map[string]string{"Content-Length": "9"}},
		`handler.headers: "X Y" is not a valid header name`: {URL: "https://x/", Headers: map[string]string{"X Y": "9"}},
		`handler.headers: "X" has a value with cont`: {URL: "https://x/",
			Headers: map[string]string{"X": "a\r\nY: b"}},
	} {
		err := Config{Name: "g", Topic: "t", Handler: HandlerConfig{Kind: "http", Config: h}}.WithDefaults().Validate()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") ||
			strings.Contains(err.Error(), "pass@") {
			t.Errorf("got %v, want only %q", err, want)
		}
	}
}

func TestConfigRefusesVariablesThatAreOurs(t *testing.T) {
	h := HandlerConfig{Kind: "exec", Config: exec.Config{Command: []string{"x"},
		Env: map[string]string{"LEASEHOLD_SEQ": "1"}}}
	err := Config{Name: "g", Topic: "t", Handler: h}.WithDefaults().Validate()
	if want := `handler.env: "LEASEHOLD_SEQ" is set by Leasehold`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}
