package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster"
	"leasehold/partitioner"
	"leasehold/partitioner/stream"
	"leasehold/server"
	"leasehold/server/datadir"
	"leasehold/worker"
	"leasehold/worker/reader"
)

// topic is one topic on this node.
type topic struct {
	partitioner.Topic
	stream jetstream.Stream
	reader *reader.Reader // nil if this node has no group of the topic: to read costs, and nobody would get it.
}

// What is stored about the cluster, its topics and its groups when the first node defines them. None of it changes
// afterwards but a topic's floor, groups and retain, and that one was removed; a node whose config says otherwise refuses to start.
type (
	clusterDefinition struct {
		Version int           `json:"v"`
		Mode    datadir.Mode  `json:"mode"`
		Timing  string        `json:"timing"`
		TTL     time.Duration `json:"session_ttl_ns"`
		Renew   time.Duration `json:"renew_ns"`
		Margin  time.Duration `json:"margin_ns"`
	}
	topicDefinition struct {
		Version    int    `json:"v"`
		Partitions int    `json:"partitions"`
		Subject    string `json:"subject"`
		Key        []int  `json:"key"`
		Floor      uint64 `json:"floor"` // Everything up to here may have been purged.

		// Groups are all that ever read the topic: a purge waits for each of them. A group is added before it is
		// defined, so that a janitor's compare-and-set on a revision without it cannot succeed any more.
		Groups []string `json:"groups,omitempty"`

		// Retain is how long messages stay once every group has finished them: what the last node that started with a retain in
		// its config said.
		Retain  time.Duration `json:"retain_ns,omitempty"`
		Removed bool          `json:"removed,omitempty"`
	}
	groupDefinition struct {
		Version int    `json:"v"`
		Topic   string `json:"topic"`
		Start   string `json:"start"`
		Done    uint64 `json:"done"` // Where every partition begins: messages up to here are not the group's.
		Removed bool   `json:"removed,omitempty"`

		undefined bool // It is not stored: see catalog.addUndefined.
	}
)

// Valid says what is missing.
func (d clusterDefinition) Valid() error {
	if d.Mode != datadir.Single && d.Mode != datadir.Cluster || d.TTL <= 0 || d.Renew <= 0 || d.Margin <= 0 {
		return fmt.Errorf("mode %q with session_ttl %v, renew %v, margin %v", d.Mode, d.TTL, d.Renew, d.Margin)
	}
	return nil
}

// Valid says what is missing, and refuses a number of partitions that no node can have stored: tables are made of it.
func (d topicDefinition) Valid() error {
	if d.Partitions < 1 || d.Partitions > partitioner.MaxPartitions {
		return fmt.Errorf("%d partitions are not 1 to %d", d.Partitions, partitioner.MaxPartitions)
	}
	if d.Subject == "" {
		return errors.New("it has no subject")
	}
	if d.Retain < 0 {
		return fmt.Errorf("its retain is %v", d.Retain)
	}
	return nil
}

// topic is what of a topic can never change.
func (d topicDefinition) topic(name string) partitioner.Topic {
	return partitioner.Topic{Name: name, Partitions: d.Partitions, Subject: d.Subject, Key: d.Key}.WithDefaults()
}

// Valid says what is missing.
func (d groupDefinition) Valid() error {
	if d.Topic == "" || d.Start == "" {
		return fmt.Errorf("topic %q with start %q", d.Topic, d.Start)
	}
	return nil
}

// setUp makes or finds the bucket, the topics' streams and the definitions. It returns where each group starts.
func (n *Node) setUp(ctx context.Context) (map[string]uint64, error) {
	var starts map[string]uint64
	steps := []struct {
		what string
		do   func(context.Context) error
	}{
		{"the bucket with sessions and leases", n.openBucket},
		{"the cluster's members", n.takeIdentity},
		{"the cluster's definition", n.defineCluster},
		{"the topics", n.openTopics},
		{"the groups' dead letters", n.openLetters},
		{"the groups' definitions", func(ctx context.Context) (err error) {
			starts, err = n.defineGroups(ctx)
			return err
		}},
	}
	for _, s := range steps {
		n.wait(s.what)
		if err := s.do(ctx); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return nil, err
		}
	}
	return starts, nil
}

func (n *Node) openBucket(ctx context.Context) error {
	nc, err := n.openConn(server.Leases)
	if err != nil {
		return err
	}
	n.conns.leases, err = cluster.OpenKV(ctx, nc, cluster.BucketOptions{
		Replicas: n.broker.Replicas(), MaxBytes: int64(n.Config.Reserve()),
		Waiting: func(err error) { n.wait(fmt.Sprintf("the bucket with sessions and leases: %v", err)) },
	})
	if err != nil {
		return err
	}
	kv, err := cluster.AttachKV(n.conns.operator.Conn())
	n.mu.Lock()
	n.kv = kv
	n.mu.Unlock()
	return err
}

func (n *Node) defineCluster(ctx context.Context) error {
	c := n.Config.Cluster
	want := clusterDefinition{
		Version: 1, Mode: n.Config.Mode(), Timing: c.Timing, TTL: c.SessionTTL, Renew: c.Renew, Margin: c.Margin,
	}
	var have clusterDefinition
	err := n.kv.Define(ctx, "cluster", want, &have)
	if errors.Is(err, cluster.ErrNotARecord) {
		err = n.redefine(ctx, rebuilt{key: "cluster", fault: err, want: want, have: &have}, n.sessionsAgree(ctx))
	}
	if err != nil {
		return err
	}
	if have != want {
		return fmt.Errorf("%w: the cluster runs with timing %s (session_ttl %v, renew %v, margin %v), this config "+
			"says %s (%v, %v, %v): every node must have the same", ErrConfig, have.Timing, have.TTL, have.Renew, have.Margin,
			want.Timing, want.TTL, want.Renew, want.Margin)
	}
	return nil
}

func (n *Node) openTopics(ctx context.Context) error {
	for _, t := range n.Config.Topics {
		if err := n.defineTopic(ctx, t); err != nil {
			return err
		}
		stream, err := n.ensureStream(ctx, t)
		if err != nil {
			return err
		}
		n.topics[t.Name] = &topic{Topic: t, stream: stream}
	}
	return nil
}

func (n *Node) ensureStream(ctx context.Context, t partitioner.Topic) (jetstream.Stream, error) {
	made, err := stream.Ensure(ctx, n.conns.operator, t, stream.Options{
		Replicas: n.broker.Replicas(), MaxPayload: n.Config.Server.MaxPayload, Sizing: n.sizing(t.MaxBytes, n.Config.DefaultMaxBytes()),
		Waiting: func(err error) { n.wait(fmt.Sprintf("topic %s: %v", t.Name, err)) },
	})
	var mismatch *stream.MismatchError
	if errors.As(err, &mismatch) {
		err = fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err == nil {
		n.noteSize("topic "+t.Name, made)
	}
	return made, err
}

// openLetters makes or finds the streams of the groups' dead letters.
func (n *Node) openLetters(ctx context.Context) error {
	for _, g := range n.Config.Groups {
		stream, err := stream.EnsureDeadLetters(ctx, n.conns.operator, g.Name, stream.DeadLetterOptions{
			Replicas: n.broker.Replicas(), Sizing: n.sizing(g.DLQMaxBytes, n.Config.DefaultDLQMaxBytes()),
			Waiting: func(err error) { n.wait(fmt.Sprintf("dead letters of group %s: %v", g.Name, err)) },
		})
		if err != nil {
			return err
		}
		n.noteSize("dead letters of group "+g.Name, stream)
	}
	return nil
}

// localServer names the broker's server on which the readers' consumers are to be placed, none in single mode.
func (n *Node) localServer() string {
	if n.Config.Mode() == datadir.Single {
		return ""
	}
	return n.dir.ServerName()
}

func topicKey(topic string) string { return "topic." + topic }

func (n *Node) defineTopic(ctx context.Context, t partitioner.Topic) error {
	want := topicDefinition{Version: 1, Partitions: t.Partitions, Subject: t.Subject, Key: t.Key, Retain: t.Retain}
	var have topicDefinition
	err := n.kv.Define(ctx, topicKey(t.Name), want, &have)
	if errors.Is(err, cluster.ErrNotARecord) {
		fault := err
		err = n.topicAgrees(ctx, t, &want)
		err = n.redefine(ctx, rebuilt{key: topicKey(t.Name), fault: fault, want: want, have: &have}, err)
	}
	if err != nil {
		return err
	}
	if have.Removed {
		return topicRemoved(t.Name)
	}
	if have.fixed() != want.fixed() {
		return fmt.Errorf("%w: topic %q exists with partitions %d, subject %q, key %v; this config says %d, %q, %v: they are "+
			"fixed once a topic exists, so set them back or use a new name",
			ErrConfig, t.Name, have.Partitions, have.Subject, have.Key, want.Partitions, want.Subject, want.Key)
	}
	if t.RetainStated && have.Retain != t.Retain {
		return n.updateTopic(ctx, t.Name, "take retain "+t.Retain.String(), func(def *topicDefinition) { def.Retain = t.Retain })
	}
	return nil
}

// fixed is what cannot change once a topic exists.
func (d topicDefinition) fixed() string { return fmt.Sprint(d.Partitions, d.Subject, d.Key) }

// updateTopic changes a topic's record. It tries until ctx ends.
func (n *Node) updateTopic(ctx context.Context, topic, what string, change func(*topicDefinition)) error {
	removed := false
	err := n.until(ctx, 100*time.Millisecond, func() []string {
		var def topicDefinition
		err := n.kv.Update(ctx, topicKey(topic), &def, func() error {
			if removed = def.Removed; removed {
				return topicRemoved(topic)
			}
			if def.Version == 0 {
				return errors.New("its definition is gone")
			}
			change(&def)
			return nil
		})
		if err != nil && !removed {
			return []string{fmt.Sprintf("topic %s to %s: %v", topic, what, err)}
		}
		return nil
	})
	if removed {
		return topicRemoved(topic)
	}
	return err
}

// defineGroups fixes where each new group starts, for all its partitions at one moment.
func (n *Node) defineGroups(ctx context.Context) (map[string]uint64, error) {
	starts := map[string]uint64{}
	for _, g := range n.Config.Groups {
		want, have := groupDefinition{Version: 1, Topic: g.Topic, Start: g.Start}, groupDefinition{}
		if err := n.defineGroup(ctx, want, g.Name, &have); err != nil {
			return nil, fmt.Errorf("group %q: %w", g.Name, err)
		}
		if have.Removed {
			return nil, groupRemoved(g.Name)
		}
		if have.Topic != want.Topic || have.Start != want.Start {
			return nil, fmt.Errorf("%w: group %q exists for topic %q with start %q; this config says %q, %q: they are fixed "+
				"once a group exists, so set them back or use a new name", ErrConfig, g.Name, have.Topic, have.Start, want.Topic, want.Start)
		}
		starts[g.Name] = have.Done
	}
	return starts, nil
}

// defineGroup finds a group's definition, or makes it: first the topic's record names the group, then its start is looked
// up, and last it is defined. What was purged before the first step is below the recorded floor, and nothing is purged
// after it without asking the group.
func (n *Node) defineGroup(ctx context.Context, want groupDefinition, name string, have *groupDefinition) error {
	rev, err := n.kv.ReadDefinition(ctx, "group."+name, have)
	switch {
	case err == nil && rev > 0:
		return nil
	case errors.Is(err, cluster.ErrNotARecord):
		fault := err
		err = n.groupAgrees(ctx, name, &want)
		return n.redefine(ctx, rebuilt{key: "group." + name, fault: fault, want: want, have: have}, err)
	}
	floor, err := n.joinTopic(ctx, want.Topic, name)
	if err != nil {
		return err
	}
	info, err := n.streamInfo(ctx, want.Topic)
	if err != nil {
		return err
	}
	want.Done = max(info.State.FirstSeq, 1) - 1
	if want.Start == worker.StartLatest {
		want.Done = info.State.LastSeq
	}
	want.Done = max(want.Done, floor)
	return n.kv.Define(ctx, "group."+name, want, have)
}

// joinTopic adds a group to its topic's record and returns the floor that is recorded there.
func (n *Node) joinTopic(ctx context.Context, topic, group string) (floor uint64, err error) {
	err = n.updateTopic(ctx, topic, "take group "+group, func(def *topicDefinition) {
		if !slices.Contains(def.Groups, group) {
			def.Groups = append(def.Groups, group)
		}
		floor = def.Floor
	})
	return floor, err
}

// streamInfo asks for a topic's state until there is an answer: a stream that was made a moment ago, by this node or
// another, may not be known where the question arrives.
func (n *Node) streamInfo(ctx context.Context, topic string) (info *jetstream.StreamInfo, err error) {
	err = n.until(ctx, 200*time.Millisecond, func() []string {
		try, cancel := context.WithTimeout(ctx, setupLimit)
		defer cancel()
		if info, err = n.topics[topic].stream.Info(try); err != nil {
			return []string{fmt.Sprintf("topic %s: %v", topic, err)}
		}
		return nil
	})
	return info, err
}

// pressure reports that a topic is more than half full, looked at every few seconds.
func (n *Node) pressure(t partitioner.Topic) func() bool {
	var at time.Time
	var pressed bool
	return func() bool {
		if time.Since(at) < 2*time.Second {
			return pressed
		}
		at = time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if stream, err := n.conns.operator.Stream(ctx, t.Name); err == nil {
			info := stream.CachedInfo()
			pressed = info.State.Bytes > uint64(max(info.Config.MaxBytes, 0))/2
		}
		return pressed
	}
}

// configHash tells configs apart that the nodes of a cluster should share. Where on its own disk a node reads and writes
// is its own affair.
func (n *Node) configHash() string {
	groups := slices.Clone(n.Config.Groups)
	for i := range groups {
		none := func(string) string { return "" }
		groups[i].Handler = groups[i].Handler.WithPaths(none, none)
	}
	text, err := json.Marshal(struct{ Topics, Groups any }{n.Config.Topics, groups})
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
