package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"leasehold/internal/config"
	"leasehold/worker"
	"leasehold/worker/handler"
)

// shellHandler answers "no" to messages with the word bad in them, and writes down how it ended.
const shellHandler = `
while read -r line; do
	id=$(printf '%s' "$line" | sed 's/.*"id":"\([^"]*\)".*/\1/')
	case "$line" in
	*'"type":"message"'*bad*)
		printf '{"type":"result","id":"%s","status":"retry","reason":"no","after_ms":2000}\n' "$id" ;;
	*'"type":"message"'*) printf '{"type":"result","id":"%s","status":"ok"}\n' "$id" ;;
	*) printf '{"type":"ack","id":"%s"}\n' "$id" ;;
	esac
	case "$line" in *'"type":"stop"'*) echo stopped > "$1"; exit ;; esac
done`

// handlerConfig is a node's config with a group "billing" of that handler and a group "audit" of kind file.
func handlerConfig(t *testing.T) (conf, dir string) {
	t.Helper()
	dir = t.TempDir()
	writeFile(t, filepath.Join(dir, "handler.sh"), shellHandler)
	conf = writeFile(t, filepath.Join(dir, "config.toml"), fmt.Sprintf(`
[node]
name = "n1"
data_dir = "data"
[[topic]]
name = "orders"
partitions = 2
[[topic]]
name = "plant"
partitions = 2
subject = "plant.*.sensor.*"
[[group]]
name = "billing"
topic = "orders"
handler = { kind = "subprocess", command = ["sh", %q, %q] }
[[group]]
name = "audit"
topic = "plant"
handler = { kind = "file", path = "out" }
`, filepath.Join(dir, "handler.sh"), filepath.Join(dir, "ended")))
	return conf, dir
}

func TestHandlerTestShowsHowAnAnswerIsRead(t *testing.T) {
	conf, dir := handlerConfig(t)
	test := func(args ...string) ran {
		return run(t, append([]string{"handler", "test", "billing", "--config", conf}, args...)...)
	}
	test("--data", "good", "--key", "a b").want(t, exitOK, "key a b, attempt 1 of 8", "4 B: good", "answer   ok",
		"the next one follows")
	if text, err := os.ReadFile(filepath.Join(dir, "ended")); err != nil || string(text) != "stopped\n" {
		t.Errorf("the child was not stopped as it should be: %q, %v", text, err)
	}
	test("--data", "bad").want(t, exitFailed, "answer   retry: no (asks to wait 2s)", "after 2s, as attempt 2 of 8")
	test("--data", "bad", "--attempt", "8").want(t, exitFailed, "attempt 8 of 8", "dead letter")
	file := writeFile(t, filepath.Join(dir, "order.json"), `{"total":12}`)
	test("--message", file).want(t, exitOK, `12 B: {"total":12}`)
	runWith(t, "from stdin", "handler", "test", "billing", "--config", conf, "--message", "-").
		want(t, exitOK, "10 B: from stdin")
}

func TestHandlerTestTakesAStoredMessage(t *testing.T) {
	conf, dir := handlerConfig(t)
	writeFile(t, filepath.Join(dir, "data", "x"), "")
	f := ordersOf("a", "b")
	if err := os.Symlink(agent(t, f), filepath.Join(dir, "data", config.SocketName)); err != nil {
		t.Fatal(err)
	}
	r := run(t, "handler", "test", "billing", "--config", conf, "--seq", "2", "--epoch", "9", "-o", "json")
	r.want(t, exitOK)
	var report trialReport
	if err := json.Unmarshal([]byte(r.out), &report); err != nil {
		t.Fatal(err)
	}
	if report.Message.ID != f.stored[1].ID || string(report.Message.Bytes()) != "for b" || report.Epoch != 9 ||
		report.Status != "ok" || report.Kind != "subprocess" {
		t.Errorf("got %+v", report)
	}
	run(t, "handler", "test", "billing", "--config", conf, "--seq", "3").want(t, exitNotFound, "not stored yet")
}

func TestHandlerTestLeavesTheFilesOfAGroupAlone(t *testing.T) {
	conf, dir := handlerConfig(t)
	run(t, "handler", "test", "audit", "--config", conf, "--data", "x", "--subject", "plant.p1.sensor.s2").
		want(t, exitOK, "answer   ok")
	if _, err := os.Stat(filepath.Join(dir, "out")); !os.IsNotExist(err) {
		t.Errorf("the group's directory: %v", err)
	}
}

func TestHandlerTestRefusesWhatCannotBeTried(t *testing.T) {
	conf, _ := handlerConfig(t)
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"nope --data x", exitNotFound, "nope"},
		{"billing", exitUsage, "one of --data, --message, --seq is missing"},
		{"billing --data x --seq 1", exitUsage, "--data and --seq exclude each other"},
		{"billing --data x --attempt 0", exitUsage, "--attempt"},
		{"billing --message /nonexistent", exitUsage, "/nonexistent"},
		{"billing --seq 1", exitUnreachable, "leasehold agent"},
		{"audit --data x", exitUsage, "full subject"},
		{"audit --data x --subject orders.a", exitUsage, "does not belong"},
	} {
		run(t, append([]string{"handler", "test", "--config", conf}, strings.Fields(c.args)...)...).want(t, c.code, c.want)
	}
	c, err := config.Load(conf)
	if err != nil {
		t.Fatal(err)
	}
	c.Groups[0].Handler = worker.HandlerConfig{Kind: "nats"}.WithDefaults()
	if _, err := (&App{Err: io.Discard}).try(t.Context(), c, c.Groups[0], &handler.Message{}); err == nil ||
		!strings.Contains(err.Error(), "kind nats") {
		t.Errorf("kind nats: %v", err)
	}
}
