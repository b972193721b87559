package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/brokererr"
	"leasehold/internal/bytesize"
	"leasehold/internal/plural"
	"leasehold/partitioner"
	"leasehold/partitioner/stream"
	"leasehold/worker/header"
)

// statusSubject is where nodes ask each other what their lanes are doing.
const statusSubject = "leasehold.internal.status"

// How long a status waits for what the others say, and for the leaders of all topics together.
const (
	statusWait  = 400 * time.Millisecond
	topicsLimit = 1500 * time.Millisecond
)

// report is what one node says of itself.
type report struct {
	Node  string                 `json:"node"`
	Ready bool                   `json:"ready"`
	Lanes map[string][]laneState `json:"lanes"` // By group.
	Disk  diskReport             `json:"disk"`

	Refused []api.Refused `json:"refused,omitempty"`

	LogDropped uint64 `json:"log_dropped,omitempty"`
	LogStuck   bool   `json:"log_stuck,omitempty"`
}

// laneState is one lane.
type laneState struct {
	Partition int    `json:"p"`
	Epoch     uint64 `json:"epoch"`
	Done      uint64 `json:"done"`
	Lag       *int64 `json:"lag"`
	Passed    uint64 `json:"passed,omitempty"`
	State     string `json:"state"`
	Attempt   int    `json:"attempt"`
	Error     string `json:"error,omitempty"`
	RetryAt   string `json:"retry_at,omitempty"`
	Parked    int    `json:"parked,omitempty"`
	Release   string `json:"release,omitempty"`
}

// report tells what this node's lanes are doing.
func (n *Node) report() report {
	r := report{Node: n.Config.Node.Name, Ready: len(n.Ready()) == 0, Lanes: map[string][]laneState{}, Disk: newDiskReport(n.disk.State()), Refused: n.refused()}
	r.LogDropped, r.LogStuck = n.Log.Dropped()
	for _, g := range n.groups {
		for _, l := range g.worker.Status() {
			s := laneState{
				Partition: l.Partition, Epoch: l.Epoch, Done: l.Checkpoint, State: l.State, Attempt: l.Attempt, Error: l.Error,
				RetryAt: header.TimeText(l.RetryAt), Parked: l.Parked, Passed: l.Passed, Release: l.Unreleased,
			}
			if l.Lag != nil {
				lag := int64(*l.Lag)
				s.Lag = &lag
			}
			r.Lanes[g.name] = append(r.Lanes[g.name], s)
		}
	}
	return r
}

// answer is a part that answers the nodes' questions on a subject until ctx ends.
func (n *Node) answer(subject string, say func(*nats.Msg) any) func(context.Context) error {
	return func(ctx context.Context) error {
		sub, err := n.conns.peers.Subscribe(subject, func(m *nats.Msg) {
			if data, err := json.Marshal(say(m)); err == nil {
				_ = m.Respond(data) // who asked shows what it got
			}
		})
		if err != nil {
			return fmt.Errorf("listen on %s: %w", subject, err)
		}
		<-ctx.Done()
		_ = sub.Unsubscribe() // the connection goes next
		return nil
	}
}

// reports asks the live nodes what their lanes are doing. Who does not answer in time is left out.
func (n *Node) reports(ctx context.Context, live int) map[string]report {
	got := map[string]report{}
	for _, r := range askNodes[report](ctx, n.conns.peers, question{subject: statusSubject, answers: live, wait: statusWait}) {
		got[r.Node] = r
	}
	return got
}

// question is what one node asks all of them.
type question struct {
	subject string
	data    []byte
	answers int // Not more are waited for,
	wait    time.Duration
}

// askNodes returns what was answered in time.
func askNodes[T any](ctx context.Context, nc *nats.Conn, q question) (got []T) {
	ctx, cancel := context.WithTimeout(ctx, q.wait)
	defer cancel()
	inbox := nc.NewRespInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return got
	}
	defer sub.Unsubscribe() //nolint:errcheck // nothing to do about it
	if nc.PublishRequest(q.subject, inbox, q.data) != nil {
		return got
	}
	for len(got) < q.answers {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			break
		}
		var answer T
		if json.Unmarshal(m.Data, &answer) == nil {
			got = append(got, answer)
		}
	}
	return got
}

// Topic tells about one of the node's topics.
func (n *Node) Topic(name string) (api.TopicInfo, bool) {
	t, ok := n.Config.Topic(name)
	if !ok {
		return api.TopicInfo{}, false
	}
	return api.TopicInfo{
		Name: t.Name, Partitions: t.Partitions, Subject: t.Subject, Key: t.Key, DedupWindowMS: t.DedupWindow.Milliseconds(),
		MaxPayload: int64(n.Config.Server.MaxPayload), Server: n.broker.ClientAddr(),
		CA: n.clientCA, NoQuorum: n.quorum().Text(),
	}, true
}

// Status puts together what this node knows, what it stored, and what the others say of their lanes.
func (n *Node) Status(ctx context.Context) (*api.Status, error) {
	n.mu.Lock()
	served := n.served
	n.mu.Unlock()
	reasons, q := n.Ready(), n.quorum()
	s := &api.Status{
		Cluster: n.Config.Identity().Cluster, Node: n.Config.Node.Name, Ready: len(reasons) == 0, Leader: q.Leader, NoQuorum: q.Text(),
		Listen: n.Config.Listeners(),
	}
	s.Warnings = append(s.Warnings, n.Config.Warnings()...)
	if !served {
		for _, r := range reasons {
			s.Warnings = append(s.Warnings, "this node waits for "+strings.TrimPrefix(r, waitingPrefix))
		}
		s.Nodes = n.startingNodes(q)
		return s, nil
	}
	view, err := n.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	if s.Quorum = !q.Lost() && (q.Leader != "" || view.Live); s.Quorum {
		s.NoQuorum = ""
	}
	s.Stale = n.staleness(view, s.Quorum)
	near := n.reach(q, s.Quorum)
	asked, listed := n.askVoters(ctx), n.askReservations(ctx)
	topics, full := n.topicStatus(ctx, s.Quorum) // Before the lanes are asked: what is stored now, they have passed then.
	said := n.reports(ctx, near.answering(view))
	more := n.elsewhere(ctx, &view, listed)
	counted := <-asked
	s.Nodes = n.nodes(view, said, counted)
	near.apply(s.Nodes)
	s.Topics = topics
	s.Groups = n.groupStatus(ctx, view, told{said: said, topics: topics, stale: s.Stale != "", quorum: s.Quorum}, more.groups)
	s.Warnings = slices.Concat(s.Warnings, diskWarnings(n.timing(), said, topics), logWarnings(said), damageWarnings(more.damage, s.Nodes), full, n.warnings(view),
		near.memberWarnings(n, view, counted), more.warnings, letterWarnings(s.Groups))
	return s, nil
}

// snapshot is what the lease protocol knows.
func (n *Node) snapshot(ctx context.Context) (lease.View, error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotLimit)
	defer cancel()
	view, err := n.driver.Snapshot(ctx)
	if err != nil {
		return view, api.Mark(api.ErrNotYet, stuck)
	}
	return view, nil
}

// askVoters asks beside the rest. Without a leader the answer is that nobody is known.
func (n *Node) askVoters(ctx context.Context) <-chan voters {
	answer := make(chan voters, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, leaderWait)
		defer cancel()
		v, err := n.voters(ctx, n.kv)
		if err != nil {
			v = voters{}
		}
		answer <- v
	}()
	return answer
}

// elsewhere is what other nodes serve and this one does not.
type elsewhere struct {
	groups   []*group
	damage   map[string]damageRecord // By node.
	warnings []string
}

// elsewhere reads it and adds the leases to the view.
func (n *Node) elsewhere(ctx context.Context, view *lease.View, listed <-chan []stream.Reservation) (more elsewhere) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	known := map[string]lease.Session{}
	for _, rec := range view.Sessions {
		known[rec.Node] = rec
	}
	c, err := n.catalog(ctx, n.kv, known)
	if err != nil {
		if errors.Is(err, cluster.ErrNotARecord) {
			err = fmt.Errorf("%w; restart a node that has it in its config, which writes it again", err)
		}
		more.warnings = append(more.warnings, fmt.Sprintf("groups that only other nodes serve are not shown: %v", err))
		return more
	}
	more.warnings = append(c.warnings(), store{maxStore: n.Config.Server.MaxStore, all: <-listed, catalog: c}.warnings()...)
	if more.damage, err = definitions[damageRecord](ctx, n.kv, damageKind); err != nil {
		more.warnings = append(more.warnings, fmt.Sprintf("damaged copies are not shown: %v", err))
	}
	for _, g := range n.foreign(c) {
		all, err := leases(ctx, n.kv, g.name, g.topic.Partitions, g.start)
		if err != nil {
			more.warnings = append(more.warnings, fmt.Sprintf("group %s is not shown: %v", g.name, err))
			continue
		}
		more.groups = append(more.groups, g)
		view.Groups = append(view.Groups, lease.GroupView{Name: g.name, Leases: all})
	}
	return more
}

// logWarnings names the nodes whose log is not written now.
func logWarnings(said map[string]report) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(said)) {
		if r := said[name]; r.LogStuck {
			out = append(out, fmt.Sprintf("node %s cannot write its log, %d lines dropped so far: check what reads its stderr, or the disk that it goes to",
				name, r.LogDropped))
		}
	}
	return out
}

// maxRefused bounds what a report says of refusals.
const maxRefused = 50

// refused is what this node has refused clients, most frequent first.
func (n *Node) refused() []api.Refused {
	var all []api.Refused
	for _, r := range n.broker.Refused() {
		all = append(all, api.Refused(r))
	}
	slices.SortStableFunc(all, func(a, b api.Refused) int { return cmp.Compare(b.Count, a.Count) })
	return all[:min(len(all), maxRefused)]
}

// nodeState is the state of a session in the words of the API.
func nodeState(rec lease.Session) string {
	if rec.State == lease.Dead {
		return api.NodeDead
	}
	return string(rec.State)
}

// nodes lists every node that ever had a session, and every configured one, but for those that were removed from the
// cluster and from the config.
func (n *Node) nodes(view lease.View, said map[string]report, v voters) []api.Node {
	var nodes []api.Node
	seen := map[string]bool{}
	for _, rec := range view.Sessions {
		seen[rec.Node] = true
		if v.removed(rec) && !n.configures(rec.Node) {
			continue
		}
		node := api.Node{
			Name: rec.Node, Boot: rec.Boot, State: nodeState(rec), Ready: rec.State == lease.Live && said[rec.Node].Ready,
			Version: rec.Release, Address: rec.Address,
		}
		if d := said[rec.Node].Disk; node.State == api.NodeLive {
			node.DiskFree, node.DiskShort, node.FsyncP99MS = d.Free, d.Short, d.FsyncP99MS
			node.Refused, node.LogDropped = said[rec.Node].Refused, said[rec.Node].LogDropped
		}
		switch {
		case rec.State == lease.Live:
			node.Partitions = n.owned(view, rec)
		case v.removed(rec):
			node.State = "removed"
		}
		nodes = append(nodes, node)
	}
	for _, p := range n.Config.Peers() {
		if !seen[p.Name] {
			nodes = append(nodes, api.Node{Name: p.Name, State: "absent", Address: p.Address})
		}
	}
	return nodes
}

// owned counts the partitions that a session life owns in the groups of the config.
func (n *Node) owned(view lease.View, rec lease.Session) (count int) {
	for _, g := range view.Groups {
		if isChore(g.Name) {
			continue
		}
		for _, l := range g.Leases {
			if l.Owner == rec.Node && l.Boot == rec.Boot {
				count++
			}
		}
	}
	return count
}

// told is what the nodes say of their lanes, and what was stored before they were asked.
type told struct {
	said   map[string]report // By node.
	topics []api.Topic
	stale  bool // What leases say is the last that this node knew.
	quorum bool
}

// lanes are those of a group at a node.
func (t told) lanes(node, group string) []laneState { return t.said[node].Lanes[group] }

// lastSeq is the last sequence of a topic, 0 if that is not known.
func (t told) lastSeq(topic string) uint64 {
	for _, known := range t.topics {
		if known.Name == topic {
			return known.LastSeq
		}
	}
	return 0
}

// groupStatus tells about this node's groups and those that only others serve.
func (n *Node) groupStatus(ctx context.Context, view lease.View, t told, more []*group) []api.Group {
	leases := map[string][]lease.Lease{}
	for _, g := range view.Groups {
		leases[g.Name] = g.Leases
	}
	alive := map[string]uint64{}
	for _, rec := range view.Sessions {
		if rec.State == lease.Live {
			alive[rec.Node] = rec.Boot
		}
	}
	var groups []api.Group
	for _, g := range slices.Concat(n.groups, more) {
		out := api.Group{Name: g.name, Topic: g.topic.Name, DeadLetters: n.countLetters(ctx, g.name, t.quorum)}
		last := t.lastSeq(g.topic.Name)
		for p, l := range leases[g.name] {
			part := partitionStatus(p, l, t.lanes(l.Owner, g.name), last)
			if boot, ok := alive[l.Owner]; !ok || boot != l.Boot {
				part.State, part.Lag = "unowned", nil
				out.Unowned++
			}
			if t.stale && part.State == "unknown" {
				part.State = "last_known"
			}
			out.Partitions = append(out.Partitions, part)
		}
		out.Lag = lagOf(out.Partitions)
		groups = append(groups, out)
	}
	return groups
}

// countLetters counts a group's dead letters, -1 if nobody answers.
func (n *Node) countLetters(ctx context.Context, group string, quorum bool) int64 {
	if !quorum {
		return n.lastKnownLetters(group)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	stream, err := n.conns.operator.Stream(ctx, partitioner.DeadLetterStream(group))
	if err != nil {
		return -1
	}
	return int64(stream.CachedInfo().State.Msgs)
}

// letterWarnings says which groups have dead letters or parked keys.
func letterWarnings(groups []api.Group) (out []string) {
	for _, g := range groups {
		parked := 0
		for _, p := range g.Partitions {
			parked += p.Parked
		}
		switch {
		case parked > 0:
			out = append(out, fmt.Sprintf("group %s: %s %s for `leasehold dlq release %s --all`; list them with `leasehold dlq list %s --kind parked`",
				g.Name, plural.Of(parked, "parked key"), plural.Verb(parked, "waits", "wait"), g.Name, g.Name))
		case g.DeadLetters > 0:
			out = append(out, fmt.Sprintf("group %s: %s %s for an operator: `leasehold dlq list %s`",
				g.Name, plural.Of(g.DeadLetters, "dead letter"), plural.Verb(g.DeadLetters, "waits", "wait"), g.Name))
		}
	}
	return out
}

// lagOf is the lag of all partitions together, nil if that of one is unknown.
func lagOf(partitions []api.Partition) *int64 {
	sum := int64(0)
	for _, p := range partitions {
		if p.Lag == nil {
			return nil
		}
		sum += *p.Lag
	}
	return &sum
}

// lag is what the lane says of it, but unknown where it says 0 and has not passed all that was stored before it was asked:
// the copy of the topic that it reads is behind.
func (s laneState) lag(last uint64) *int64 {
	if behind := s.Passed > 0 && s.Passed < last; behind && s.Lag != nil && *s.Lag == 0 {
		return nil
	}
	return s.Lag
}

// partitionStatus is what the lease says, and what its owner adds if it speaks of the same epoch.
func partitionStatus(p int, l lease.Lease, lanes []laneState, last uint64) api.Partition {
	part := api.Partition{
		Partition: p, Owner: l.Owner, Boot: l.Boot, Epoch: l.Epoch, Done: l.Checkpoint, Attempt: l.Attempt, State: "unknown", Paused: l.Paused,
	}
	for _, s := range lanes {
		if s.Partition == p && s.Epoch == l.Epoch {
			part.Done, part.Lag, part.State, part.Attempt, part.Error = s.Done, s.lag(last), s.State, s.Attempt, s.Error
			part.RetryAt, part.Parked, part.Release = s.RetryAt, s.Parked, s.Release
		}
	}
	return part
}

// topicStatus looks at the topics' streams; those that do not answer are left out with a warning. Without a quorum none can
// answer: then it is what this node holds itself.
func (n *Node) topicStatus(ctx context.Context, quorum bool) (topics []api.Topic, warnings []string) {
	if !quorum {
		return n.lastKnownTopics(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, topicsLimit)
	defer cancel()
	for _, c := range n.Config.Topics {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		info, err := n.topics[c.Name].stream.Info(ctx)
		cancel()
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("topic %s does not answer: %s", c.Name, brokererr.Text(err)))
			continue
		}
		topics = append(topics, api.Topic{
			Name: c.Name, Partitions: c.Partitions, Messages: info.State.Msgs, Bytes: info.State.Bytes, LastSeq: info.State.LastSeq,
			Held: stream.PublishingPaused(info.Config),
		})
		if limit := uint64(max(info.Config.MaxBytes, 0)); limit > 0 && info.State.Bytes > limit/10*9 {
			warnings = append(warnings, fmt.Sprintf("topic %s is %d %% full (max_bytes %s): publishes are refused when it is; see what its groups "+
				"wait for, or raise its max_bytes", c.Name, info.State.Bytes*100/limit, bytesize.Size(limit)))
		}
	}
	return topics, warnings
}

// warnings says what a person should look at.
func (n *Node) warnings(view lease.View) (out []string) {
	own := n.configHash()
	for _, rec := range view.Sessions {
		switch {
		case rec.State != lease.Live:
		case rec.ConfigHash != own:
			out = append(out, fmt.Sprintf("node %s runs with other topic or group settings than this node", rec.Node))
		}
	}
	for _, a := range view.Alarms {
		out = append(out, fmt.Sprintf("%s; look at sequence %d of the stream %s for what wrote it", a.Text, a.Revision, cluster.Stream))
	}
	if !view.Live {
		out = append(out, "this node: "+view.State)
	}
	return out
}
