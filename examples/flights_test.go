package examples

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// demo is a cluster's input and outputs, as lines that a test can spoil. One file a partition and node.
type demo struct {
	input   []string
	file    map[string][]string // NODE/FILE → lines.
	running map[string][]string // FILE → lines.
}

// runningLine is a line of running.py.
type runningLine struct {
	Key        string  `json:"key"`
	Seq        uint64  `json:"seq"`
	Epoch      uint64  `json:"epoch"`
	Partition  int     `json:"partition"`
	Node       string  `json:"node"`
	Count      int     `json:"count"`
	TotalDelay float64 `json:"total_delay"`
	Chain      string  `json:"chain"`
}

// twoOwners makes 12 rows of 3 keys in one partition, the first half handled by n1, the other by n2.
func twoOwners() *demo {
	d := &demo{file: map[string][]string{}, running: map[string][]string{}}
	states := map[string]runningLine{}
	for i := range 12 {
		key, epoch, node := string(rune('a'+i%3)), 1+i/6, fmt.Sprintf("n%d", 1+i/6)
		data := fmt.Sprintf(`{"id":"r%02d","origin":%q,"delay":%d}`, i, key, i)
		d.input = append(d.input, data)
		name := node + "/flights.audit.00003.ndjson"
		d.file[name] = append(d.file[name], line(map[string]any{
			"node": node, "group": "audit", "partition": 3, "seq": i + 1, "epoch": epoch, "attempt": 1, "key": key, "data": data,
		}))
		s := states[key]
		sum := sha256.Sum256([]byte(s.Chain + data))
		s = runningLine{
			Key: key, Seq: uint64(i + 1), Epoch: uint64(epoch), Partition: 3, Node: node,
			Count: s.Count + 1, TotalDelay: s.TotalDelay + float64(i), Chain: hex.EncodeToString(sum[:]),
		}
		states[key] = s
		d.running["flights.delays.00003.ndjson"] = append(d.running["flights.delays.00003.ndjson"], line(s))
	}
	return d
}

func line(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// check writes the demo to a directory and runs check.py on it. It returns the exit code and what was printed.
func (d *demo) check(t *testing.T, options ...string) (int, string) {
	t.Helper()
	dir := t.TempDir()
	input := filepath.Join(dir, "in")
	write(t, input, d.input)
	for name, lines := range d.file {
		write(t, filepath.Join(dir, "file", name), lines)
	}
	for name, lines := range d.running {
		write(t, filepath.Join(dir, "running", name), lines)
	}
	args := []string{input, filepath.Join(dir, "running"), "--file", filepath.Join(dir, "file")}
	return checkFlights(t, append(args, options...)...)
}

func checkFlights(t *testing.T, args ...string) (int, string) {
	t.Helper()
	cmd := exec.Command(need(t, "python3"), append([]string{"flights/check.py"}, args...)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func write(t *testing.T, path string, lines []string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Names in twoOwners.
const (
	first  = "n1/flights.audit.00003.ndjson"
	second = "n2/flights.audit.00003.ndjson"
	chain  = "flights.delays.00003.ndjson"
)

func TestCheckOfFlightsPassesACleanRun(t *testing.T) {
	code, out := twoOwners().check(t)
	if code != 0 || strings.Count(out, "✓") != 8 || !strings.Contains(out, "All 12 rows of 3 keys") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

func TestCheckOfFlightsFindsPlantedErrors(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(d *demo)
		claim string
	}{
		"dropped line": {func(d *demo) { d.file[first] = slices.Delete(d.file[first], 2, 3) },
			"file handler: every row was handled"},
		"dropped last line": {func(d *demo) { d.file[second] = d.file[second][:5] },
			"file handler: every row was handled"},
		"dropped file": {func(d *demo) { delete(d.file, second) },
			"file handler: every row was handled"},
		"swapped lines": {func(d *demo) { swap(d.file[first], 1, 2) },
			"file handler: one owner per epoch, sequences grow"},
		"swapped lines of a key": {func(d *demo) { swap(d.file[first], 0, 3) },
			"file handler: each key in the order of the input"},
		"doubled line": {func(d *demo) { d.file[first] = append(d.file[first], d.file[first][5]) },
			"file handler: no row was handled twice"},
		"doubled at another owner": {func(d *demo) {
			d.file[second] = append([]string{strings.Replace(d.file[first][5], `"epoch":1`, `"epoch":2`, 1)}, d.file[second]...)
		}, "file handler: no row was handled twice"},
		"same epoch at two owners": {func(d *demo) { all(d.file[second], `"epoch":2`, `"epoch":1`) },
			"file handler: one owner per epoch, sequences grow"},
		"order by sequence only": {func(d *demo) { all(d.file[second], `"epoch":2`, `"epoch":0`) },
			"file handler: each key in the order of the input"},
		"changed payload": {func(d *demo) { all(d.file[first][:1], `delay\":0`, `delay\":9`) },
			"file handler: no line is foreign or changed"},
		"wrong key": {func(d *demo) { all(d.file[first][:1], `"key":"a"`, `"key":"b"`) },
			"file handler: no line is foreign or changed"},
		"chain: dropped line": {func(d *demo) { d.running[chain] = slices.Delete(d.running[chain], 4, 5) },
			"running.py: chain, count and total follow from the input"},
		"chain: dropped last line": {func(d *demo) { d.running[chain] = d.running[chain][:11] },
			"running.py: every row was handled"},
		"chain: swapped lines": {func(d *demo) { swap(d.running[chain], 4, 5) },
			"running.py: one row after the other, none twice"},
		"chain: doubled line": {func(d *demo) { d.running[chain] = append(d.running[chain], d.running[chain][11]) },
			"running.py: one row after the other, none twice"},
		"chain: lowered epoch": {func(d *demo) {
			all(d.running[chain][11:], `"epoch":2`, `"epoch":1`)
			all(d.running[chain][6:7], `"epoch":2`, `"epoch":3`)
		}, "running.py: one row after the other, none twice"},
		"chain: wrong total": {func(d *demo) { all(d.running[chain][11:], `"total_delay":`, `"total_delay":1`) },
			"running.py: chain, count and total follow from the input"},
		"chain: row of another order": {func(d *demo) { swap(d.input, 0, 3) },
			"running.py: chain, count and total follow from the input"},
	} {
		t.Run(name, func(t *testing.T) {
			d := twoOwners()
			c.spoil(d)
			if code, out := d.check(t); code != 1 || !strings.Contains(out, "✗ "+c.claim+": ") {
				t.Errorf("exit code %d, want 1 and %q in:\n%s", code, c.claim, out)
			}
		})
	}
}

func swap(lines []string, i, j int) { lines[i], lines[j] = lines[j], lines[i] }

func all(lines []string, from, to string) {
	for i, l := range lines {
		lines[i] = strings.Replace(l, from, to, 1)
	}
}

func TestCheckOfFlightsAllowsRepeatsUnderANewerEpochOnlyWhenAskedFor(t *testing.T) {
	repeated := func() *demo {
		d := twoOwners()
		again := strings.ReplaceAll(strings.Replace(d.file[first][5], `"epoch":1`, `"epoch":2`, 1), `"n1"`, `"n2"`)
		d.file[second] = append([]string{again}, d.file[second]...)
		return d
	}
	if code, out := repeated().check(t, "--allow-repeats"); code != 0 {
		t.Errorf("repeat after a takeover: exit code %d:\n%s", code, out)
	}
	if code, out := repeated().check(t); code != 1 {
		t.Errorf("repeat after a takeover, unasked: exit code %d:\n%s", code, out)
	}
	d := repeated()
	d.file[second] = append(d.file[second], d.file[second][6])
	if code, out := d.check(t, "--allow-repeats"); code != 1 {
		t.Errorf("repeat within an epoch: exit code %d:\n%s", code, out)
	}
}

func TestCheckOfFlightsRefusesWhatItCannotJudge(t *testing.T) {
	for name, lines := range map[string][]string{
		"same id twice":      {`{"id":1,"origin":"a"}`, `{"id":1,"origin":"a"}`},
		"no key":             {`{"id":1}`},
		"no JSON":            {`x`},
		"empty":              {},
		"two rows in a line": {`{"id":1,"origin":"a"}{"id":2,"origin":"a"}`},
		"Latin-1":            {"{\"id\":\"\xfc\",\"origin\":\"a\"}"},
		"not an object":      {`[1]`},
		"an array for an id": {`{"id":[],"origin":"a"}`},
	} {
		input := filepath.Join(t.TempDir(), "in")
		write(t, input, lines)
		if code, out := checkFlights(t, input, t.TempDir()); code != 2 {
			t.Errorf("%s: exit code %d, want 2:\n%s", name, code, out)
		}
	}
	input := filepath.Join(t.TempDir(), "in")
	write(t, input, []string{`{"id":1,"origin":"a"}`})
	if code, out := checkFlights(t, input, filepath.Join(t.TempDir(), "missing")); code != 2 {
		t.Errorf("missing directory: exit code %d, want 2:\n%s", code, out)
	}
	d := twoOwners()
	d.file[first][0] = `{"node":"n1"}`
	if code, out := d.check(t); code != 2 {
		t.Errorf("foreign line: exit code %d, want 2:\n%s", code, out)
	}
}

// TestCheckOfFlightsReadsTheInputAsItWasPublished: a byte order mark is not part of the first row.
func TestCheckOfFlightsReadsTheInputAsItWasPublished(t *testing.T) {
	d := twoOwners()
	d.input[0] = "\ufeff" + d.input[0]
	if code, out := d.check(t); code != 0 {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}
