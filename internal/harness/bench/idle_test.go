//go:build bench

package bench

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"leasehold/internal/harness/scenario"
	"leasehold/internal/harness/testcluster"
	"leasehold/partitioner"
)

var idleFlag = flag.Bool("idle", false, "TestIdleCost: 64 and 1024 partitions, measured for 15 s and traced for 10 s")

const (
	idleSettle   = 5 * time.Second // after everything is in balance
	singleRate   = 1000            // messages a second of the one partition that has work
	ticksASecond = 100             // of /proc/PID/stat on Linux, whatever the kernel's own
)

// cost is what one node took while it was watched.
type cost struct {
	cpu    float64            // percent of one core
	rss    int                // MiB
	syncs  map[string]float64 // synced writes a second, by directory
	writes float64            // system calls that write, a second: no node syncs more often
}

// What a cluster costs that has nothing to do, or work for one partition only.
// It prints and asserts nothing: the targets are in the design, the machine is
// shared.
func TestIdleCost(t *testing.T) {
	counts, watch, trace := []int{64}, time.Second, time.Second
	if *idleFlag {
		counts, watch, trace = []int{64, 1024}, 15*time.Second, 10*time.Second
	}
	var rows [][]any
	for _, partitions := range counts {
		c := startIdle(t, partitions)
		idle := costs(c, watch, trace)
		rows = append(rows, costRows(partitions, "none", idle, idle)...)
		load := testcluster.StartLoad(t, c.URLs(), testcluster.LoadSpec{
			Topic: partitioner.Topic{Name: "orders", Partitions: partitions}, Names: keysOfOne(partitions), Rate: singleRate,
		})
		testcluster.Pass(2 * time.Second)
		before, from := load.Published(), time.Now()
		one := costs(c, watch, trace)
		rate := float64(load.Published()-before) / time.Since(from).Seconds()
		rows = append(rows, costRows(partitions, fmt.Sprintf("one partition, %.0f/s", rate), idle, one)...)
		load.Stop(t, testcluster.DrainLimit)
		for _, n := range c.Nodes {
			n.Kill()
		}
	}
	head := "PARTITIONS\tWORK\tNODE\tCPU % OF A CORE\tRSS MiB\tWRITE CALLS/s\tSYNCED WRITES/s\tOF THEM LEASES\tOF OTHERS"
	t.Log(scenario.Table(head, func(row func(...any)) {
		for _, cells := range rows {
			row(cells...)
		}
	}))
}

// keysOfOne are keys of one partition: of a single one, the publisher has
// only one message under way at a time.
func keysOfOne(partitions int) []string {
	var keys []string
	for i := 0; len(keys) < 100; i++ {
		if key := fmt.Sprintf("k%d", i); partitioner.Of(partitions, key) == 0 {
			keys = append(keys, key)
		}
	}
	return keys
}

func startIdle(t *testing.T, partitions int) *testcluster.Cluster {
	t.Helper()
	c := testcluster.New(t, testcluster.Spec{
		Topics:   []testcluster.Topic{{Name: "orders", Partitions: partitions}},
		Groups:   []testcluster.Group{{Name: scenario.Group, Topic: "orders", Handler: `{ kind = "discard" }`}},
		LogLevel: "info",
	})
	c.StartAll(testcluster.StartLimit)
	c.WaitBalanced(testcluster.MoveLimit, scenario.Group)
	testcluster.Pass(idleSettle)
	return c
}

// costs watches all nodes at once: first undisturbed, then traced, which
// slows them down and is for counting only.
func costs(c *testcluster.Cluster, watch, trace time.Duration) []cost {
	c.T.Helper()
	var all []cost
	before := make([]testcluster.Usage, len(c.Nodes))
	for i, n := range c.Nodes {
		before[i] = n.Usage()
	}
	testcluster.Pass(watch)
	for i, n := range c.Nodes {
		all = append(all, since(n.Usage(), before[i]))
	}
	var tracing sync.WaitGroup
	for i, n := range c.Nodes {
		tracing.Go(func() { all[i].syncs = traceSyncs(n, trace) })
	}
	tracing.Wait()
	return all
}

// costRows renders what was seen. Which Raft log is that of the leases shows
// when nothing is published: it is the one in which the nodes say that they
// are alive.
func costRows(partitions int, work string, idle, costs []cost) [][]any {
	var rows [][]any
	for i, c := range costs {
		row := []any{partitions, work, fmt.Sprintf("n%d", i+1), fmt.Sprintf("%.1f", c.cpu), c.rss,
			fmt.Sprintf("%.0f", c.writes)}
		if c.syncs == nil {
			rows = append(rows, append(row, "no strace", "", ""))
			continue
		}
		total := 0.0
		for _, rate := range c.syncs {
			total += rate
		}
		leases := c.syncs[busiest(idle[i].syncs)]
		for _, rate := range []float64{total, leases, total - leases} {
			row = append(row, fmt.Sprintf("%.1f", rate))
		}
		rows = append(rows, row)
	}
	return rows
}

func busiest(rates map[string]float64) string {
	name := ""
	for other, rate := range rates {
		if rate > rates[name] {
			name = other
		}
	}
	return name
}

func since(u testcluster.Usage, before testcluster.Usage) cost {
	seconds := u.At.Sub(before.At).Seconds()
	return cost{
		cpu: float64(u.Ticks-before.Ticks) / ticksASecond / seconds * 100, rss: u.RSS,
		writes: float64(u.Writes-before.Writes) / seconds,
	}
}

// traceSyncs counts what the node writes through to its disk, a second, by
// directory: fsync, fdatasync, and files opened to be written in
// sync, which are written once. nil without strace.
func traceSyncs(n *testcluster.Node, d time.Duration) map[string]float64 {
	strace, err := exec.LookPath("strace")
	if err != nil {
		return nil
	}
	out := filepath.Join(n.Cluster.Dir, n.Name+".strace")
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	cmd := exec.CommandContext(ctx, strace, "-f", "-qq", "-y", "-e", "trace=fsync,fdatasync,openat", "-e", "signal=none",
		"-o", out, "-p", strconv.Itoa(n.PID()))
	// Interrupted, it lets go of the node and writes what it has.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var said bytes.Buffer
	cmd.Stderr = &said
	from := time.Now()
	err = cmd.Run()
	took := time.Since(from)
	lines, readErr := os.ReadFile(out)
	if readErr != nil || took < d {
		n.Cluster.T.Errorf("strace of %s: %v %s", n.Name, err, said.String())
		return nil
	}
	return countSyncs(lines, took)
}

var (
	syncCall = regexp.MustCompile(`^\d+ +(fsync|fdatasync)\(\d+<([^>]*)>`)
	openCall = regexp.MustCompile(`^\d+ +openat\([^"]*"([^"]*)", [A-Z_|]*O_D?SYNC`)
)

func countSyncs(trace []byte, took time.Duration) map[string]float64 {
	rates := make(map[string]float64)
	for lines := bufio.NewScanner(bytes.NewReader(trace)); lines.Scan(); {
		path := ""
		if m := syncCall.FindStringSubmatch(lines.Text()); m != nil {
			path = m[2]
		} else if m := openCall.FindStringSubmatch(lines.Text()); m != nil {
			path = m[1]
		} else {
			continue
		}
		rates[filepath.Dir(path)] += 1 / took.Seconds()
	}
	return rates
}

func TestSyncsAreCountedByDirectory(t *testing.T) {
	//nolint:lll // Lines as strace prints them.
	trace := `101 fsync(9</d/jetstream/LEASEHOLD/streams/KV_leasehold/msgs/1.blk>) = 0
102 fdatasync(12</d/jetstream/$SYS/_js_/S-R3F-x/msgs/4.blk> <unfinished ...>
102 <... fdatasync resumed>) = 0
101 openat(AT_FDCWD</d>, "/d/jetstream/LEASEHOLD/streams/orders/meta.tmp", O_WRONLY|O_CREAT|O_TRUNC|O_SYNC|O_CLOEXEC, 0640) = 7</d/x>
101 openat(AT_FDCWD</d>, "/proc/stat", O_RDONLY|O_CLOEXEC) = 7</proc/stat>
`
	got := countSyncs([]byte(trace), time.Second)
	if len(got) != 3 || got["/d/jetstream/LEASEHOLD/streams/KV_leasehold/msgs"] != 1 ||
		got["/d/jetstream/$SYS/_js_/S-R3F-x/msgs"] != 1 || got["/d/jetstream/LEASEHOLD/streams/orders"] != 1 {
		t.Error(got)
	}
}
