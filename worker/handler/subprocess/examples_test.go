package subprocess

import (
	"bufio"
	"bytes"
	"encoding/json"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"leasehold/worker/handler"
	"leasehold/worker/workertest"
)

func startExample(t *testing.T, env map[string]string, config map[string]any, command ...string) *testSub {
	return startSub(t, "", func(c *Config, _ *handler.Env) {
		c.Command, c.Env, c.Config, c.Processes = command, env, config, 2
	})
}

func TestMinimalExamplesHandleMessages(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	for _, command := range [][]string{
		{workertest.Need(t, "python3"), "../../../examples/minimal.py"},
		{workertest.Need(t, "node"), "../../../examples/minimal.js"},
		{workertest.Need(t, "bash"), "../../../examples/minimal.sh"},
	} {
		s := startExample(t, map[string]string{"OUT": out}, map[string]any{"type": "x"}, command...)
		a := handler.Assignment{Partition: 1, Epoch: 5, NextSeq: 1}
		if err := s.Assign(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		for seq := uint64(1); seq < 20; seq++ {
			workertest.WantStatus(t, s.handle(t, workertest.Message(1, seq, `{"type":"stop","id":"7"}`+"\r\n\u2028")),
				handler.OK, "")
		}
		s.Revoke(t.Context(), a, "rebalance")
		s.stop()
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n != 19 {
		t.Errorf("minimal.sh wrote %d lines, want 19", n)
	}
}

// flights returns the first n rows of the data as messages of 4 partitions, in order.
func flights(t *testing.T, n int) [4][]*handler.Message {
	t.Helper()
	f, err := os.Open("../../../examples/flights/flights-20k.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var parts [4][]*handler.Message
	in := bufio.NewScanner(f)
	for seq := uint64(1); seq <= uint64(n) && in.Scan(); seq++ {
		var row struct{ ID, Origin string }
		if err := json.Unmarshal(in.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		h := fnv.New32a()
		h.Write([]byte(row.Origin))
		p := int(h.Sum32() % 4)
		m := workertest.Message(p, seq, in.Text())
		m.Key, m.IdempotencyKey, m.Topic = row.Origin, row.ID, "flights"
		parts[p] = append(parts[p], m)
	}
	return parts
}

// checkFlights runs the example's own check on the first n rows.
func checkFlights(t *testing.T, dir string, n int) (string, error) {
	t.Helper()
	text, err := os.ReadFile("../../../examples/flights/flights-20k.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	rows := filepath.Join(t.TempDir(), "rows")
	lines := bytes.SplitAfterN(text, []byte("\n"), n+1)
	if err := os.WriteFile(rows, bytes.Join(lines[:n], nil), 0o600); err != nil {
		t.Fatal(err)
	}
	check := exec.Command(workertest.Need(t, "python3"), "../../../examples/flights/check.py", rows, dir)
	out, err := check.CombinedOutput()
	return string(out), err
}

func TestFlightsExampleIsExactAcrossCrashesRepeatsAndOwners(t *testing.T) {
	const rows = 3000
	dir := t.TempDir()
	start := func() *testSub {
		return startExample(t, nil, map[string]any{"dir": dir}, workertest.Need(t, "python3"),
			"../../../examples/flights/running.py")
	}
	n1, n2 := start(), start()
	var wg sync.WaitGroup
	for p, messages := range flights(t, rows) {
		wg.Go(func() {
			for i, m := range messages {
				owner := n1
				if i > len(messages)/2 {
					owner, m.Epoch, m.Node = n2, 6, "n2"
				}
				if i%97 == 0 && i > 0 && messages[i-1].Epoch == m.Epoch { // A repeat, as after a crash.
					wantOK(t, owner, messages[i-1])
				}
				if i == 50 && p == 0 {
					workertest.Kill(t, owner.pid(t))
				}
				wantOK(t, owner, m)
			}
		})
	}
	wg.Wait()
	if out, err := checkFlights(t, dir, rows); err != nil || !strings.Contains(out, "3000 rows") {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := checkFlights(t, dir, rows-1); err == nil {
		t.Errorf("a row too many was not found: %s", out)
	}
}

// wantOK calls until the answer is OK, as a lane does, forgiving the attempts that a killed child costs.
func wantOK(t *testing.T, s *testSub, m *handler.Message) {
	for range 20 {
		r := callUntilReady(t.Context(), s, m)
		if r.Status == handler.OK {
			return
		}
		if r.Status == handler.Reject {
			t.Errorf("message %s: %+v", m.ID, r)
			return
		}
	}
	t.Errorf("message %s is never OK", m.ID)
}

func TestFlightsExampleTurnsAnOlderEpochAway(t *testing.T) {
	dir := t.TempDir()
	s := startExample(t, nil, map[string]any{"dir": dir}, workertest.Need(t, "python3"),
		"../../../examples/flights/running.py")
	row := `{"delay":1}`
	m := workertest.Message(0, 5, row)
	workertest.WantStatus(t, s.handle(t, m), handler.OK, "")
	late := workertest.Message(0, 6, row)
	late.Epoch = 4
	workertest.WantStatus(t, s.handle(t, late), handler.Unavailable, "epoch 4 is older than 5")
	workertest.WantStatus(t, s.handle(t, workertest.Message(0, 6, "no json")), handler.Reject, "not a flight")
	workertest.WantStatus(t, s.handle(t, workertest.Message(0, 7, "\xff")), handler.Reject, "not a flight")
	text, err := os.ReadFile(filepath.Join(dir, "orders.billing.00000.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte("\n")); n != 1 {
		t.Errorf("%d lines: %s", n, text)
	}
	const want = `"count": 1, "total_delay": 1`
	if !strings.Contains(string(text), want) {
		t.Errorf("file is %s", text)
	}
}
