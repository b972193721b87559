package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster/lease"
	"leasehold/server"
	"leasehold/server/servertest"
)

// storeLimit bounds every single wait on a store.
const storeLimit = 30 * time.Second

// backend is a kind of Store under the contract, with what the Store itself does not offer.
type backend struct {
	Store
	other     Store                             // The same records over another connection.
	delete    func(t *testing.T, k lease.Key)   // Leaves a delete marker, as a tool would.
	replyLost func(t *testing.T, w lease.Write) // Lands a write whose reply is lost.
	// Stores what is no record of the lease protocol, by any name. May be nil.
	foreign func(t *testing.T, key, value string)
	broken  func(t *testing.T, f func(what string)) // Calls f while no server replies. May be nil.
}

func TestContractOnFake(t *testing.T) {
	m := newMemory()
	s := newFakeStore(m)
	contract(t, backend{
		Store: s, other: newFakeStore(m),
		delete:    func(_ *testing.T, k lease.Key) { m.delete(k) },
		replyLost: func(_ *testing.T, w lease.Write) { _, _ = m.put(w) },
		broken:    func(_ *testing.T, f func(string)) { s.hang(); defer s.heal(); f("a hanging store") },
	})
}

func TestContractOnOneServer(t *testing.T) {
	srv := servertest.Single(t)
	contract(t, kvBackend(t, srv.Conn, srv.Conn, 1))
}

// TestContractOnCluster runs the contract on three servers, over connections to two of them, and then stops servers.
func TestContractOnCluster(t *testing.T) {
	nodes := servertest.StartCluster(t, 3)
	for _, n := range nodes {
		n.WaitReady(t)
	}
	b := kvBackend(t, nodes[0].Conn, nodes[1].Conn, 3)
	contract(t, b)
	t.Run("no acknowledged write is lost when leaders change", func(t *testing.T) { survivesLeaderChanges(t, b, nodes) })
	t.Run("a write without quorum ends with ctx and may land later", func(t *testing.T) { noQuorum(t, b, nodes) })
}

// kvBackend is the real store over two connections.
func kvBackend(t *testing.T, conn, other func(server.Role) (*nats.Conn, error), replicas int) backend {
	t.Helper()
	s, nc := openKV(t, conn, replicas)
	o, _ := openKV(t, other, replicas)
	return backend{
		Store: s, other: o,
		delete: func(t *testing.T, k lease.Key) {
			m := nats.NewMsg(subjects + k.String())
			m.Header.Set("KV-Operation", "DEL")
			request(t, nc, m)
		},
		replyLost: func(t *testing.T, w lease.Write) {
			ctx, cancel := context.WithTimeout(context.Background(), storeLimit)
			defer cancel()
			if _, err := o.Write(ctx, w); err != nil { // the reply goes to another store than the one under test
				t.Fatal(err)
			}
		},
		foreign: func(t *testing.T, key, value string) {
			request(t, nc, &nats.Msg{Subject: subjects + key, Data: []byte(value), Header: nats.Header{}})
		},
	}
}

func openKV(t *testing.T, conn func(server.Role) (*nats.Conn, error), replicas int) (*KV, *nats.Conn) {
	t.Helper()
	nc, err := conn("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	ctx, cancel := context.WithTimeout(context.Background(), storeLimit)
	defer cancel()
	s, err := OpenKV(ctx, nc, BucketOptions{Replicas: replicas, MaxBytes: 1 << 26})
	if err != nil {
		t.Fatal(err)
	}
	return s, nc
}

func request(t *testing.T, nc *nats.Conn, m *nats.Msg) {
	t.Helper()
	if _, err := nc.RequestMsg(m, storeLimit); err != nil {
		t.Fatal(err)
	}
}

// contract is what every Store must do. Its tests share one store, so each uses its own group or node.
func contract(t *testing.T, b backend) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*storeLimit)
	defer cancel()
	for name, f := range map[string]func(*testing.T, context.Context, backend){
		"write lands on the revision named only":            writeLandsOnItsRevisionOnly,
		"of many writes on one revision one lands":          oneOfManyWritesLands,
		"conflict may be our own write":                     conflictMayBeOurOwn,
		"revisions grow":                                    revisionsGrow,
		"absent record is revision 0":                       absentIsRevisionZero,
		"records come back as they were":                    recordsComeBackAsTheyWere,
		"leases are complete beyond a chunk":                leasesAreComplete,
		"sessions are complete and nothing else":            sessionsAreComplete,
		"deleted record is a marker that can be built on":   markerCanBeBuiltOn,
		"invalid record can be built on":                    invalidRecordCanBeBuiltOn,
		"announcements reach others":                        announcementsReachOthers,
		"ended ctx ends everything with an error":           endedContextEndsEverything,
		"nothing answering ends with ctx and with an error": nothingAnswering,
	} {
		t.Run(name, func(t *testing.T) { f(t, ctx, b) })
	}
}

// session is the record of a live node.
func session(node string, boot uint64) *lease.Session {
	return &lease.Session{Version: 1, Node: node, Boot: boot, State: lease.Live, Nonce: "x-1", TTL: 5 * time.Second,
		Weight: 1}
}

func leaseWrite(group string, p int, rev, done uint64) lease.Write {
	return lease.Write{
		Key: lease.Key{Group: group, Partition: p}, Revision: rev,
		Lease: &lease.Lease{Version: 1, Owner: "n1", Boot: 1, Epoch: 1, Checkpoint: done},
	}
}

func mustWrite(t *testing.T, ctx context.Context, s Store, w lease.Write) uint64 {
	t.Helper()
	rev, err := s.Write(ctx, w)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// readDone reads until a lease shows at least the revision: a replica may be behind, or have stopped with the question.
func readDone(t *testing.T, ctx context.Context, s Store, k lease.Key, rev uint64) lease.Observed {
	t.Helper()
	var obs lease.Observed
	servertest.Eventually(t, storeLimit, func() (err error) {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if obs, err = s.Read(short, k); err == nil && obs.Revision < rev {
			err = fmt.Errorf("%v reads as revision %d, written was %d", k, obs.Revision, rev)
		}
		return err
	})
	return obs
}

func writeLandsOnItsRevisionOnly(t *testing.T, ctx context.Context, b backend) {
	first := mustWrite(t, ctx, b, leaseWrite("cas", 0, 0, 1))
	second := mustWrite(t, ctx, b, leaseWrite("cas", 0, first, 2))
	for _, rev := range []uint64{0, first, second + 1} {
		if _, err := b.Write(ctx, leaseWrite("cas", 0, rev, 9)); !errors.Is(err, ErrConflict) {
			t.Errorf("a write on revision %d of a record at %d ended with %v", rev, second, err)
		}
	}
	if obs := readDone(t, ctx, b, lease.Key{Group: "cas"}, second); obs.Revision != second || obs.Lease.Checkpoint != 2 {
		t.Errorf("after refused writes the record is %+v at revision %d", obs.Lease, obs.Revision)
	}
}

func oneOfManyWritesLands(t *testing.T, ctx context.Context, b backend) {
	rev := mustWrite(t, ctx, b, leaseWrite("race", 0, 0, 0))
	revs := make([]uint64, 40)
	var wg sync.WaitGroup
	for i := range revs {
		wg.Go(func() {
			s := []Store{b.Store, b.other}[i%2]
			revs[i], _ = s.Write(ctx, leaseWrite("race", 0, rev, uint64(i)))
		})
	}
	wg.Wait()
	winner := -1
	for i, r := range revs {
		if r > 0 && winner >= 0 {
			t.Fatalf("writes %d and %d on one revision both landed", winner, i)
		}
		if r > 0 {
			winner = i
		}
	}
	if winner < 0 {
		t.Fatal("no write landed")
	}
	if obs := readDone(t, ctx, b, lease.Key{Group: "race"}, revs[winner]); obs.Lease.Checkpoint != uint64(winner) {
		t.Errorf("write %d landed, stored is %d", winner, obs.Lease.Checkpoint)
	}
}

// conflictMayBeOurOwn: a write whose reply was lost is refused when it is sent again, and only a read shows that it
// landed.
func conflictMayBeOurOwn(t *testing.T, ctx context.Context, b backend) {
	rev := mustWrite(t, ctx, b, leaseWrite("unknown", 0, 0, 1))
	b.replyLost(t, leaseWrite("unknown", 0, rev, 2))
	if _, err := b.Write(ctx, leaseWrite("unknown", 0, rev, 2)); !errors.Is(err, ErrConflict) {
		t.Fatalf("the same write again ended with %v", err)
	}
	obs := readDone(t, ctx, b, lease.Key{Group: "unknown"}, rev+1)
	if obs.Lease.Checkpoint != 2 {
		t.Fatalf("the read that decides it shows %+v", obs.Lease)
	}
	mustWrite(t, ctx, b, leaseWrite("unknown", 0, obs.Revision, 3))
}

func revisionsGrow(t *testing.T, ctx context.Context, b backend) {
	revs := make([]uint64, 3)
	for i := range 30 {
		p := i % len(revs)
		rev := mustWrite(t, ctx, b, leaseWrite("grow", p, revs[p], uint64(i)))
		if rev <= revs[p] {
			t.Fatalf("partition %d went from revision %d to %d", p, revs[p], rev)
		}
		revs[p] = rev
	}
}

func absentIsRevisionZero(t *testing.T, ctx context.Context, b backend) {
	for _, k := range []lease.Key{{Group: "absent", Partition: 7}, lease.SessionKey("nobody")} {
		obs, err := b.Read(ctx, k)
		if err != nil || obs.Key != k || obs.Revision != 0 || obs.Session != nil || obs.Lease != nil {
			t.Errorf("read of %v: %+v, %v", k, obs, err)
		}
	}
	if observed, err := b.Leases(ctx, "absent", 3); err != nil || len(observed) > 0 {
		t.Errorf("leases that were never written: %v, %v", observed, err)
	}
}

func recordsComeBackAsTheyWere(t *testing.T, ctx context.Context, b backend) {
	k := lease.SessionKey("round-trip")
	want := lease.Session{
		Version: 1, Node: "round-trip", Boot: 1<<63 + 1, State: lease.Live, Nonce: "n-1", DirID: "d", KernelBoot: "k",
		LockDev: 3, LockIno: 4, TTL: 5 * time.Second, Groups: []string{"a", "b"}, Weight: 2, Leaving: true, ServerID: "s",
		Address: "a:1", Release: "0.1", Zone: "z", ConfigHash: "h",
	}
	rev := mustWrite(t, ctx, b, lease.Write{Key: k, Session: &want})
	if obs := readDone(t, ctx, b, k, rev); obs.Lease != nil || obs.Session == nil ||
		fmt.Sprint(*obs.Session) != fmt.Sprint(want) {
		t.Errorf("wrote %+v, read %+v", want, obs.Session)
	}
	l := lease.Lease{Version: 1, Owner: "n1", Boot: 2, Epoch: 1<<63 + 3, Checkpoint: 1<<63 + 4, Attempt: 5,
		Successor: "n2", Paused: "why", Release: "a b", Applied: 6}
	k = lease.Key{Group: "round-trip", Partition: 99999}
	rev = mustWrite(t, ctx, b, lease.Write{Key: k, Lease: &l})
	if obs := readDone(t, ctx, b, k, rev); obs.Session != nil || obs.Lease == nil || *obs.Lease != l {
		t.Errorf("wrote %+v, read %+v", l, obs.Lease)
	}
	asked := lease.Commands{Version: 1, LastID: 4, Open: []lease.Command{{ID: 4, Kind: lease.Seek, Partitions: []int{1},
		Seq: 7}}}
	k = lease.CommandsKey("round-trip")
	rev = mustWrite(t, ctx, b, lease.Write{Key: k, Commands: &asked})
	if obs := readDone(t, ctx, b, k, rev); obs.Commands == nil || fmt.Sprint(*obs.Commands) != fmt.Sprint(asked) ||
		obs.Lease != nil {
		t.Errorf("wrote %+v, read %+v", asked, obs.Commands)
	}
}

func leasesAreComplete(t *testing.T, ctx context.Context, b backend) {
	const partitions = chunk + chunk/4
	never := map[int]bool{0: true, chunk - 1: true, chunk + 5: true}
	var wg sync.WaitGroup
	errs := make([]error, partitions)
	for p := range partitions {
		if !never[p] {
			wg.Go(func() { _, errs[p] = b.Write(ctx, leaseWrite("many", p, 0, uint64(p))) })
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	servertest.Eventually(t, storeLimit, func() error {
		observed, err := b.Leases(ctx, "many", partitions)
		if err != nil {
			return err
		}
		return checkLeases(observed, partitions, never)
	})
	if observed, err := b.Leases(ctx, "many", 10); err != nil || len(observed) != 9 {
		t.Errorf("of the first ten partitions %d leases were read: %v", len(observed), err)
	}
}

func checkLeases(observed []lease.Observed, partitions int, never map[int]bool) error {
	seen := map[int]bool{}
	for _, s := range observed {
		p := s.Key.Partition
		if seen[p] || never[p] || s.Key.Group != "many" || s.Revision == 0 || s.Lease == nil ||
			s.Lease.Checkpoint != uint64(p) {
			return fmt.Errorf("partition %d reads as %+v", p, s)
		}
		seen[p] = true
	}
	if len(seen) != partitions-len(never) {
		return fmt.Errorf("%d leases of %d came back", len(seen), partitions-len(never))
	}
	return nil
}

func sessionsAreComplete(t *testing.T, ctx context.Context, b backend) {
	for i := range 5 {
		node := fmt.Sprint("node-", i)
		mustWrite(t, ctx, b, lease.Write{Key: lease.SessionKey(node), Session: session(node, uint64(i)+1)})
	}
	mustWrite(t, ctx, b, leaseWrite("session", 1, 0, 1)) // a group may be called anything
	mustWrite(t, ctx, b, lease.Write{Key: lease.CommandsKey("lease"), Commands: &lease.Commands{Version: 1, LastID: 3}})
	if b.foreign != nil {
		b.foreign(t, "topic.orders", `{"partitions":64}`)
	}
	servertest.Eventually(t, storeLimit, func() error {
		observed, err := b.Sessions(ctx)
		found := 0
		for _, s := range observed {
			switch {
			case s.Key == lease.CommandsKey("lease") && s.Commands != nil && s.Commands.LastID == 3:
				found++
			case s.Lease != nil || s.Key.Node == "" && s.Commands == nil:
				return fmt.Errorf("%v is among the sessions", s.Key)
			}
			for i := range 5 {
				if s.Key.Node == fmt.Sprint("node-", i) && s.Session.Boot == uint64(i)+1 {
					found++
				}
			}
		}
		if err == nil && found != 6 {
			err = fmt.Errorf("%d records of 5 sessions and of commands came back", found)
		}
		return err
	})
}

func markerCanBeBuiltOn(t *testing.T, ctx context.Context, b backend) {
	k := lease.SessionKey("deleted")
	rev := mustWrite(t, ctx, b, lease.Write{Key: k, Session: session("deleted", 3)})
	b.delete(t, k)
	marker := readDone(t, ctx, b, k, rev+1)
	if marker.Session != nil {
		t.Fatalf("a deleted record reads as %+v", marker.Session)
	}
	servertest.Eventually(t, storeLimit, func() error {
		observed, err := b.Sessions(ctx)
		for _, s := range observed {
			if s.Key == k && s.Revision == marker.Revision && s.Session == nil {
				return nil
			}
		}
		return errors.Join(err, errors.New("the marker is not among the sessions"))
	})
	for _, old := range []uint64{0, rev} {
		_, err := b.Write(ctx, lease.Write{Key: k, Revision: old, Session: session("deleted", 9)})
		if !errors.Is(err, ErrConflict) {
			t.Errorf("a write on revision %d over the marker at %d ended with %v", old, marker.Revision, err)
		}
	}
	mustWrite(t, ctx, b, lease.Write{Key: k, Revision: marker.Revision, Session: session("deleted", 4)})
}

func announcementsReachOthers(t *testing.T, ctx context.Context, b backend) {
	ctx, cancel := context.WithCancel(ctx)
	heard, ended := make(chan lease.Observed, 100), make(chan error, 1)
	go func() { ended <- b.other.Listen(ctx, func(s lease.Observed) { heard <- s }) }()
	for _, want := range []lease.Observed{
		{Key: lease.SessionKey("loud"), Revision: 7, Session: session("loud", 2)},
		{Key: lease.Key{Group: "loud", Partition: 3}, Revision: 8,
			Lease: &lease.Lease{Version: 1, Owner: "n1", Boot: 1, Epoch: 5}},
		{Key: lease.CommandsKey("loud"), Revision: 9, Commands: &lease.Commands{Version: 1, LastID: 5}},
	} {
		servertest.Eventually(t, storeLimit, func() error {
			b.Announce(want) // again and again: the other may not have begun to listen
			select {
			case got := <-heard:
				if got.Key == want.Key && got.Revision == want.Revision && (got.Lease == nil) == (want.Lease == nil) {
					return nil
				}
				return fmt.Errorf("received %+v", got)
			case <-time.After(100 * time.Millisecond):
				return errors.New("nothing was received")
			}
		})
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("listening ended with %v", err)
	}
}

// calls are the store's calls that wait for a reply.
func calls(s Store) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"write": func(ctx context.Context) error {
			_, err := s.Write(ctx, leaseWrite("ended", rand.Int(), 0, 1))
			return err
		},
		"read": func(ctx context.Context) error {
			_, err := s.Read(ctx, lease.Key{Group: "many", Partition: 1})
			return err
		},
		"sessions": func(ctx context.Context) error { _, err := s.Sessions(ctx); return err },
		"leases":   func(ctx context.Context) error { _, err := s.Leases(ctx, "many", chunk+1); return err },
	}
}

// endedContextEndsEverything: above all, no read may pass for complete because its time ran out.
func endedContextEndsEverything(t *testing.T, ctx context.Context, b backend) {
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	late, cancel := context.WithDeadline(ctx, time.Now().Add(-time.Second))
	defer cancel()
	for what, ended := range map[string]context.Context{"cancelled": cancelled, "past its deadline": late} {
		for name, call := range calls(b) {
			if call(ended) == nil { //nolint:contextcheck // Both are made of ctx.
				t.Errorf("a %s with a ctx %s went well", name, what)
			}
		}
	}
}

func nothingAnswering(t *testing.T, ctx context.Context, b backend) {
	if b.broken == nil {
		return // another test stops a real server
	}
	b.broken(t, func(what string) {
		for name, call := range calls(b) {
			short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			began := time.Now()
			if call(short) == nil {
				t.Errorf("a %s on %s went well", name, what)
			}
			if took := time.Since(began); took > storeLimit/2 {
				t.Errorf("a %s on %s took %v to end", name, what, took)
			}
			cancel()
		}
	})
}

// survivesLeaderChanges counts up in a few leases as fast as it goes, settling what is unknown by reading as the rules
// say, while the bucket's leader steps down and then dies.
func survivesLeaderChanges(t *testing.T, b backend, nodes []*servertest.Node) {
	_, nc := openKV(t, nodes[0].Conn, 3)
	ctx, stop := context.WithCancel(t.Context())
	counters := make([]counter, 4)
	var wg sync.WaitGroup
	for i := range counters {
		counters[i].key = lease.Key{Group: "shaken", Partition: i}
		wg.Go(func() { counters[i].run(ctx, []Store{b.Store, b.other}[i%2]) })
	}
	for range 3 {
		waitCounted(t, counters)
		request(t, nc, nats.NewMsg("$JS.API.STREAM.LEADER.STEPDOWN."+Stream))
	}
	waitCounted(t, counters)
	stopLeader(t, nc, nodes)
	waitCounted(t, counters)
	stop()
	wg.Wait()
	for i := range counters {
		if err := counters[i].check(t, b); err != nil {
			t.Error(err)
		}
	}
}

// counter raises a lease's checkpoint by one, repeatedly.
type counter struct {
	key lease.Key

	mu       sync.Mutex
	rev      uint64 // Of the last acknowledged write.
	done     uint64 // What it stored.
	unknowns int
	err      error
}

func (c *counter) run(ctx context.Context, s Store) {
	rev, done := uint64(0), uint64(0)
	for ctx.Err() == nil {
		short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		next, err := s.Write(short, leaseWrite(c.key.Group, c.key.Partition, rev, done+1))
		cancel()
		if err == nil {
			c.acknowledged(next, done+1)
			rev, done = next, done+1
			continue
		}
		c.mu.Lock()
		c.unknowns++
		c.mu.Unlock()
		short, cancel = context.WithTimeout(ctx, 500*time.Millisecond)
		if obs, err := s.Read(short, c.key); err == nil && obs.Revision > rev {
			rev, done = obs.Revision, obs.Lease.Checkpoint
		}
		cancel()
	}
}

func (c *counter) acknowledged(rev, done uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rev <= c.rev || done <= c.done {
		c.err = fmt.Errorf("%v: %d acknowledged as revision %d after %d as %d", c.key, done, rev, c.done, c.rev)
	}
	c.rev, c.done = rev, done
}

// waitCounted returns when every counter has been acknowledged three times more.
func waitCounted(t *testing.T, counters []counter) {
	t.Helper()
	for i := range counters {
		c := &counters[i]
		c.mu.Lock()
		from := c.done
		c.mu.Unlock()
		servertest.Eventually(t, storeLimit, func() error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.err == nil && c.done < from+3 {
				return fmt.Errorf("%v got from %d to %d only, with %d unknown outcomes", c.key, from, c.done, c.unknowns)
			}
			return nil
		})
	}
}

// check compares with what is stored: a write on the newest revision that can be read proves that it is the newest.
func (c *counter) check(t *testing.T, b backend) error {
	t.Logf("%v: %d acknowledged, %d unknown", c.key, c.done, c.unknowns)
	servertest.Eventually(t, storeLimit, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		obs, err := b.Read(ctx, c.key)
		if err != nil {
			return err
		}
		if obs.Revision > c.rev || obs.Lease.Checkpoint > c.done {
			c.rev, c.done = max(c.rev, obs.Revision), max(c.done, obs.Lease.Checkpoint) // landed without a reply
		}
		rev, err := b.Write(ctx, leaseWrite(c.key.Group, c.key.Partition, obs.Revision, obs.Lease.Checkpoint+1))
		if err == nil && obs.Lease.Checkpoint < c.done {
			c.err = fmt.Errorf("%v: %d was acknowledged, but revision %d follows %d", c.key, c.done, rev, obs.Lease.Checkpoint)
		}
		return err
	})
	return c.err
}

// stopLeader stops the node that leads the bucket, unless the stores under test are connected to it: then leadership
// moves until it is another's.
func stopLeader(t *testing.T, nc *nats.Conn, nodes []*servertest.Node) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	servertest.Eventually(t, storeLimit, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s, err := js.Stream(ctx, Stream)
		if err != nil {
			return err
		}
		if leader := s.CachedInfo().Cluster.Leader; leader != nodes[2].Options.Dir.ServerName() {
			_, err := nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+Stream, nil, time.Second)
			return errors.Join(fmt.Errorf("%s leads", leader), err)
		}
		return nodes[2].Stop()
	})
}

// noQuorum: of three nodes one is gone; with the second gone too, nothing is acknowledged, but it may land when a node
// is back. Reads go on.
func noQuorum(t *testing.T, b backend, nodes []*servertest.Node) {
	ctx := t.Context()
	w := leaseWrite("lonely", 0, 0, 1)
	servertest.Eventually(t, storeLimit, func() (err error) {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		w.Revision, err = b.Write(short, w)
		return err
	})
	if err := nodes[1].Stop(); err != nil {
		t.Fatal(err)
	}
	w.Lease.Checkpoint = 2
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	if rev, err := b.Write(short, w); err == nil {
		t.Fatalf("acknowledged as %d by one node of three", rev)
	}
	if obs := readDone(t, ctx, b, w.Key, w.Revision); obs.Lease.Checkpoint != 1 {
		t.Errorf("the read during the outage shows %+v", obs.Lease)
	}
	back := nodes[1].Restart(t)
	back.WaitReady(t)
	servertest.Eventually(t, storeLimit, func() error {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := b.Write(short, w)
		if errors.Is(err, ErrConflict) {
			obs, err := b.Read(short, w.Key)
			if err == nil && obs.Lease.Checkpoint != 2 {
				err = fmt.Errorf("refused, yet the record is %+v", obs.Lease)
			}
			return err
		}
		return err
	})
}
