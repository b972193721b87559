package postgres

import (
	"bytes"
	"flag"
	"fmt"
	"testing"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/testcluster"
	"leasehold/partitioner"
)

func TestMain(m *testing.M) { testcluster.Main(m) }

var (
	messagesFlag = flag.Int("messages", 2000, "how many messages TestCluster publishes at least; 100000 for the full run")
	roundsFlag   = flag.Int("rounds", 0,
		"how many rounds of kill -9, freeze and rolling restart TestCluster makes; 0: only one kill -9")
)

const (
	partitions = 16
	accounts   = 500
	// freeze outlives a session, so that the frozen node's partitions are taken over.
	freeze     = 12 * time.Second
	drainLimit = 20 * time.Minute
)

// TestClusterAppliesEachMessageOnce has three nodes work on one database while they are killed, frozen and restarted in
// turn, and looks for every effect in the end.
func TestClusterAppliesEachMessageOnce(t *testing.T) {
	db := startPostgres(t)
	c := testcluster.New(t, testcluster.Spec{Topics: []testcluster.Topic{{Name: "orders", Partitions: partitions}},
		LogLevel: "info"})
	h := db.handler()
	c.StartGroup(testcluster.Group{Name: "billing", Topic: "orders", Handler: fmt.Sprintf(
		`{ kind = "subprocess", command = [%q, %q], processes = 2, config = { dsn = %q } }`, h.Command[0], h.Command[1],
		db.dsn())})
	load := testcluster.StartLoad(t, c.URLs(), testcluster.LoadSpec{
		Topic: partitioner.Topic{Name: "orders", Partitions: partitions}, Keys: accounts,
		// Half of them as a backlog, half as they come, so that every fault meets some.
		Burst: *messagesFlag / 2, Rate: max(100, *messagesFlag/250),
		Data: func(i int, _ string) []byte { return fmt.Appendf(nil, `{"amount": %d}`, i%1000+1) },
	})
	published := func(want int) func() error {
		return func() error {
			if n := load.Published(); n < want {
				return fmt.Errorf("%d of %d published", n, want)
			}
			return nil
		}
	}
	testcluster.Eventually(t, hang, published(*messagesFlag/4)) // Else the first fault meets idle nodes.
	faults(t, c)
	testcluster.Eventually(t, drainLimit, published(*messagesFlag))
	records := load.Stop(t, drainLimit)
	c.WaitDrained(drainLimit, "billing")
	db.judge(records)
}

func faults(t *testing.T, c *testcluster.Cluster) {
	if *roundsFlag == 0 {
		c.KillAndReturn(c.Nodes[0], "billing")
	}
	for i := range *roundsFlag {
		n := c.Nodes[i%len(c.Nodes)]
		t.Logf("round %d: kill -9 %s, %s", i+1, n.Name, backlog(c))
		c.KillAndReturn(n, "billing")
		n = c.Nodes[(i+1)%len(c.Nodes)]
		t.Logf("round %d: freeze %s, %s", i+1, n.Name, backlog(c))
		c.FreezeAndReturn(n, "billing", freeze)
		t.Logf("round %d: rolling restart, %s", i+1, backlog(c))
		for _, n := range c.Nodes {
			c.RestartAndReturn(n, "billing")
		}
	}
}

// backlog says how much there is to do.
func backlog(c *testcluster.Cluster) string {
	s, err := c.Status()
	if err != nil {
		return err.Error()
	}
	lag := s.Group("billing").Lag
	if lag == nil {
		return "lag unknown"
	}
	return fmt.Sprintf("%d messages behind", *lag)
}

// judge compares what was published with what the database holds.
func (db *database) judge(published []history.PublishRecord) {
	db.t.Helper()
	db.load(published)
	const applied = "(SELECT message, count(*) AS n FROM ledger GROUP BY message) AS l"
	for _, c := range []struct{ claim, sql string }{
		{"acknowledged messages without exactly one effect",
			"SELECT count(*) FROM published AS p LEFT JOIN " + applied +
				" USING (message) WHERE outcome IN ('stored', 'duplicate') AND coalesce(n, 0) <> 1"},
		{"messages of unknown outcome with more than one effect",
			"SELECT count(*) FROM published AS p JOIN " + applied + " USING (message) WHERE outcome = 'unknown' AND n > 1"},
		{"effects of messages that were refused or never published",
			"SELECT count(*) FROM ledger LEFT JOIN published USING (message) WHERE outcome IS NULL OR outcome = 'refused'"},
		{"effects that are not what was published",
			"SELECT count(*) FROM ledger AS l JOIN published AS p USING (message) WHERE l.account <> p.account OR l.amount <> " +
				"p.amount"},
		{"effects out of order, or under an older epoch than the one before",
			"SELECT count(*) FROM (SELECT epoch, seq, lag(epoch) OVER w AS e, lag(seq) OVER w AS s FROM ledger WINDOW w AS " +
				"(PARTITION BY partition ORDER BY id)) AS x WHERE epoch < e OR seq <= s"},
		{"accounts whose balance is not the sum of their effects",
			"SELECT count(*) FROM (SELECT account, sum(amount) AS amount FROM ledger GROUP BY account) AS l FULL JOIN balance " +
				"AS b USING (account) WHERE l.amount IS DISTINCT FROM b.amount"},
		{"partitions whose progress is not their last effect",
			"SELECT count(*) FROM (SELECT partition, max(seq) AS seq, max(epoch) AS epoch FROM ledger GROUP BY partition) AS " +
				"l JOIN progress AS p USING (partition) WHERE l.seq <> p.seq OR l.epoch > p.epoch"},
	} {
		if got := db.query(c.sql); got != "0" {
			db.t.Errorf("%s %s", got, c.claim)
		}
	}
	// Else nobody ever went on with what another had begun, and this proves little.
	if got := db.query("SELECT count(*) FROM (SELECT partition FROM ledger GROUP BY partition HAVING count(DISTINCT " +
		"epoch) > 1) AS p"); got == "0" {
		db.t.Error("no partition has effects under two epochs")
	}
	db.t.Logf("%d published, %s effects in %s partitions under %s epochs, %s accounts", len(published),
		db.query("SELECT count(*) FROM ledger"), db.query("SELECT count(*) FROM progress"),
		db.query("SELECT count(*) FROM (SELECT DISTINCT partition, epoch FROM ledger) AS e"),
		db.query("SELECT count(*) FROM balance"))
}

// load copies what was published into a table. The amounts are those of Data, by the number in the id.
func (db *database) load(published []history.PublishRecord) {
	db.t.Helper()
	var rows bytes.Buffer
	for _, p := range published {
		var i int
		if _, err := fmt.Sscanf(p.ID, "m%d", &i); err != nil {
			db.t.Fatalf("id %q: %v", p.ID, err)
		}
		fmt.Fprintf(&rows, "%s\t%s\t%d\t%s\n", p.ID, p.Key, i%1000+1, p.Outcome)
	}
	db.query("CREATE TABLE published (message text PRIMARY KEY, account text, amount bigint, outcome text)")
	cmd := db.psql(db.t.Context(), "-c", "COPY published FROM STDIN")
	cmd.Stdin = &rows
	db.must(cmd)
}
