package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"leasehold/internal/conformance"
)

// needProgram fails the test on a machine without a program that an example is written for: it would prove nothing.
func needProgram(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("this test runs an example and needs %s on the PATH: %v", program, err)
	}
}

// configWithHandler writes a node's config with one group whose handler is the inline table.
func configWithHandler(t *testing.T, handler string) string {
	t.Helper()
	dir := t.TempDir()
	return writeFile(t, filepath.Join(dir, "config.toml"), fmt.Sprintf("[node]\nname = \"n7\"\ndata_dir = %q\n\n"+
		"[[topic]]\nname = \"orders\"\npartitions = 4\n\n[[group]]\nname = \"billing\"\ntopic = \"orders\"\nhandler = %s\n",
		dir, handler))
}

func TestExampleHandlersPassTheConformanceChecks(t *testing.T) {
	for _, program := range []string{"bash", "node", "python3"} {
		needProgram(t, program)
	}
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		program, script, data string
		fences                bool // Those that keep no epoch are told so.
	}{
		{"python3", "minimal.py", "x", false},
		{"node", "minimal.js", "x", false},
		{"bash", "minimal.sh", "x", false},
		{"python3", "fencing.py", "x", true},
		{"python3", "batch.py", `{"value": 21.5}`, false},
		{"python3", "flights/running.py", `{"delay": 5}`, true},
	} {
		dir := t.TempDir()
		config := configWithHandler(t,
			fmt.Sprintf(`{ kind = "subprocess", command = [%q, %q], config = { db = %q, dir = %q } }`, c.program,
				filepath.Join(examples, c.script), filepath.Join(dir, "db"), dir))
		for range 2 { // The second time the store remembers the first.
			r := run(t, "handler", "conformance", "--config", config, "--group", "billing", "--data", c.data, "--max-payload",
				"64KiB", "-o", "json")
			r.want(t, exitOK)
			var report conformance.Report
			if err := json.Unmarshal([]byte(r.out), &report); err != nil {
				t.Fatalf("%v in %s", err, r.out)
			}
			for _, check := range report.Checks {
				right := check.Verdict == conformance.Right || check.Name == "time" // That is the machine's affair.
				if !right && (check.Name != "stale epoch" || c.fences) {
					t.Errorf("%s: %+v", c.script, check)
				}
			}
		}
	}
}

func TestConformanceChecksAProcessPerMessage(t *testing.T) {
	for _, program := range []string{"bash", "jq"} {
		needProgram(t, program)
	}
	out := t.TempDir()
	config := configWithHandler(t,
		fmt.Sprintf(`{ kind = "exec", command = ["../../examples/exec.sh"], env = { OUT = %q } }`, out))
	args := []string{"handler", "conformance", "--config", config, "--group", "billing", "--max-payload", "1KiB"}
	run(t, append(args, "--data", "{}")...).want(t, exitOK, "✓ message: answered ok", "✓ binary payload: came to reject",
		" 0 wrong")
	run(t, append(args, "--data", "no json")...).want(t, exitOK, "! message: came to reject")
	if err := os.RemoveAll(out); err != nil {
		t.Fatal(err)
	}
	run(t, append(args, "--data", "{}")...).want(t, exitFailed, "✗ message: came to unavailable", "not to blame")
}

func TestConformanceReportsWhatIsWrong(t *testing.T) {
	needProgram(t, "bash")
	twice := `while IFS= read -r line; do
		[[ $line =~ \"type\":\"([a-z_]+)\",\"id\":\"([^\"]*)\" ]] || exit 1
		case ${BASH_REMATCH[1]} in
		message) for i in 1 2; do printf '{"type":"result","id":"%s","status":"ok"}\n' "${BASH_REMATCH[2]}"; done ;;
		init | assign | revoke | stop) printf '{"type":"ack","id":"%s"}\n' "${BASH_REMATCH[2]}" ;;
		esac
	done`
	args := []string{"handler", "conformance", "--max-payload", "1KiB"}
	r := run(t, append(args, "--", "bash", "-c", twice)...)
	r.want(t, exitFailed, "✗ one answer each: answered twice", "→ answer each line once", "✓ kill -9", " 1 wrong, ")

	r = run(t, append(args, "-o", "json", "--", "bash", "-c", twice)...)
	var report conformance.Report
	if err := json.Unmarshal([]byte(r.out), &report); err != nil {
		t.Fatalf("%v in %s", err, r.out)
	}
	if r.code != exitFailed || report.OK || report.V != 1 || report.Wrong != 1 || len(report.Checks) != report.Right+
		report.Wrong+report.Better {
		t.Errorf("exit code %d, %+v", r.code, report)
	}
}

func TestConformanceShowsTheHandlersLogWhenAsked(t *testing.T) {
	needProgram(t, "python3")
	message := writeFile(t, filepath.Join(t.TempDir(), "message"), "hello from a file")
	r := run(t, "handler", "conformance", "--verbose", "--message", message, "--", "python3", "../../examples/minimal.py")
	r.want(t, exitOK, "line=\"c-17 hello from a file\"")
}

func TestConformanceNamesWhatItCannotCheck(t *testing.T) {
	log := configWithHandler(t, `{ kind = "log" }`)
	missing := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{nil, exitUsage, "--group NAME"},
		{[]string{"--group", "billing", "--config", log, "--", "true"}, exitUsage, "give one of them"},
		{[]string{"--group", "billing", "--config", log, "--url", "http://127.0.0.1:1/"}, exitUsage, "give one of them"},
		{[]string{"--secret-file", missing, "--", "true"}, exitUsage, "secret_files"},
		{[]string{"--secret-file", missing, "--url", "http://127.0.0.1:1/"}, exitUsage, missing},
		{[]string{"--url", "127.0.0.1:1"}, exitUsage, "handler.url"},
		{[]string{"--url", "http://127.0.0.1:1/"}, exitFailed, "✗ message: came to unavailable"},
		{[]string{"--group", "billing", "--config", log}, exitUsage, `kind "log"`},
		{[]string{"--group", "audit", "--config", log}, exitNotFound, `no group "audit"`},
		{[]string{"--group", "billing", "--config", missing}, exitUsage, "leasehold init"},
		{[]string{"--timeout", "-1s", "--", "true"}, exitUsage, "must not be negative"},
		{[]string{"--max-payload", "9MiB", "--", "true"}, exitUsage, "from 1B to 8MiB"},
		{[]string{"--max-payload", "much", "--", "true"}, exitUsage, "is not a valid size"},
		{[]string{"--message", missing, "--", "true"}, exitUsage, missing},
		{[]string{"--", ""}, exitFailed, "✗ start: handler.command: must name a program"},
		{[]string{"--", "true"}, exitFailed, "✗ start: it ended: exit status 0"},
	} {
		r := run(t, append([]string{"handler", "conformance"}, c.args...)...)
		r.want(t, c.code, c.says)
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("it made a file")
	}
}
