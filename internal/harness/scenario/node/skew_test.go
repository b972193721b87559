package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"leasehold/internal/harness/scenario"
	"leasehold/internal/harness/testcluster"
	"leasehold/internal/skewclock"
)

// An hour ahead from the start, then behind: what the node writes in its log
// and on messages says so, and its leases do not notice.
func TestLongWallClockOfANodeIsWrong(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	topic := testcluster.Topic{Name: "orders", Partitions: 4}
	c := testcluster.New(t, testcluster.Spec{Nodes: 1, Skewed: true, Topics: []testcluster.Topic{topic}})
	n, out := c.Nodes[0], filepath.Join(c.Dir, "out")
	n.Skew(skewclock.Skew{Wall: time.Hour})
	c.StartGroup(testcluster.Group{Name: scenario.Group, Topic: "orders",
		Handler: fmt.Sprintf(`{ kind = "file", path = %q }`, out)})
	before := c.Owners(scenario.Group)
	c.Publish(topic, 20)
	n.Skew(skewclock.Skew{Wall: -time.Hour})
	c.Publish(topic, 40) // 20 of them are there
	c.WaitDrained(testcluster.DrainLimit, scenario.Group)
	if err := testcluster.SameOwners(before, c.Owners(scenario.Group)); err != nil {
		t.Error(err)
	}
	n.Term() // which it logs

	log := n.Log()
	for _, ahead := range []time.Duration{time.Hour, -time.Hour} {
		if first := firstTime(t, log, time.Now().Add(ahead)); first == "" {
			t.Errorf("the log has no time near %v ahead:\n%s", ahead, log)
		}
	}
	if published := published(t, out); !slices.ContainsFunc(published, around(time.Hour)) ||
		!slices.ContainsFunc(published, around(-time.Hour)) {
		t.Errorf("messages say that they were published at %v", published)
	}
}

func around(ahead time.Duration) func(time.Time) bool {
	return func(at time.Time) bool { return time.Until(at.Add(-ahead)).Abs() < 3*time.Minute }
}

var logTime = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*(Z|[+-]\d\d:?\d\d)`)

// firstTime is the first time of the log around the one wanted.
func firstTime(t *testing.T, log string, want time.Time) string {
	t.Helper()
	for _, text := range logTime.FindAllString(log, -1) {
		at, err := time.Parse("2006-01-02T15:04:05.999Z0700", text)
		if err != nil {
			t.Fatal(err)
		}
		if at.Sub(want).Abs() < 3*time.Minute {
			return text
		}
	}
	return ""
}

// published reads when the messages in the files of a file handler were
// published.
func published(t *testing.T, dir string) (times []time.Time) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var m struct{ Published time.Time }
			if err := json.Unmarshal(line, &m); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			times = append(times, m.Published)
		}
	}
	return times
}

func TestLongOrdinaryBinaryHasNoSkewClock(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	for path, want := range map[string]bool{testcluster.LeaseholdBinary(t): false, testcluster.SkewedBinary(t): true} {
		binary, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if has := bytes.Contains(binary, []byte(skewclock.Variable)); has != want {
			t.Errorf("%s knows of %s: %v", path, skewclock.Variable, has)
		}
	}
}

// A box without a clock of its own boots in 1970, or lay on a shelf; a minute
// later its clock is set. It is let in at once, and routes that are made
// anew afterwards are not refused either.
func TestLongNodeWhoseClockIsWrongAndThenSetIsLetIn(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long runs it")
	}
	c := testcluster.New(t, testcluster.Spec{Nodes: 3, Skewed: true})
	c.StartAll(testcluster.StartLimit)
	n, other := c.Nodes[2], c.Nodes[0]
	for name, ahead := range map[string]time.Duration{
		"1970": time.Until(time.Unix(0, 0)), "40 days behind": -40 * 24 * time.Hour, "10 days ahead": 10 * 24 * time.Hour,
	} {
		t.Logf("%s at %s", n.Name, name)
		n.Term()
		n.Skew(skewclock.Skew{Wall: ahead})
		n.Start()
		c.WaitReady(testcluster.StartLimit)
		n.Skew(skewclock.Skew{})
		other.Term()
		other.Start()
		c.WaitReady(testcluster.StartLimit)
	}
}
