// Package scenario holds what the scenarios in the folders below share: how a
// run is watched, judged and shown. Each folder is one theme of tests that run
// real clusters, one after the other.
package scenario

import (
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/testcluster"
)

const (
	// Group is the group whose calls Judge looks at.
	Group = "calls"
	// Partitions and Keys are how many the topic of an ordinary run has.
	Partitions = 32
	Keys       = 200

	// JudgeLimit is how long the handlers may take to write down their last calls.
	JudgeLimit = 10 * time.Second
)

// SlowTakeover is for Spec.Cluster where a test needs what a node had to be its
// own for a while after it was killed.
const SlowTakeover = "fast_takeover = false"

// Judge waits until everything is processed and checks the history. Lag is
// refreshed every few seconds, so the last calls may still be on their way.
func Judge(t *testing.T, c *testcluster.Cluster, load *testcluster.Load, rules history.Rules) history.History {
	t.Helper()
	published := load.Stop(t, testcluster.DrainLimit)
	c.WaitDrained(testcluster.DrainLimit, Group)
	var h history.History
	var report history.Report
	defer func() { t.Log(report) }()
	testcluster.Eventually(t, JudgeLimit, func() error {
		h = c.History(published)
		report = history.Check(h, rules)
		return report.Err()
	})
	return h
}

// Table renders rows under a head, columns aligned.
func Table(head string, rows func(row func(cells ...any))) string {
	var b strings.Builder
	b.WriteString("\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, head)
	rows(func(cells ...any) {
		var texts []string
		for _, cell := range cells {
			texts = append(texts, fmt.Sprint(cell))
		}
		fmt.Fprintln(w, strings.Join(texts, "\t"))
	})
	w.Flush()
	return b.String()
}
