package testcluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"leasehold/internal/bytesize"
	"leasehold/partitioner"
)

// publishTopic is the topic of every cluster: the bare servers' stream is made by the same code as Leasehold's.
var publishTopic = partitioner.Topic{Name: "orders", Partitions: 64, MaxBytes: 4 * bytesize.GiB}.WithDefaults()

// publishKind is a cluster to publish to: three processes on this machine, started by start.
type publishKind struct {
	name  string
	other bool // It is of the build that -publish-other names.
	start func(t *testing.T) *publishRig
}

// publishRig is a cluster that runs until the end of the test.
type publishRig struct {
	pids    []int
	urls    []string      // For clients, in the order of pids.
	options []nats.Option // Of clients.
	leader  func() (node string, err error)
	settle  func() // Waits until what was published has been handled.
}

// publishKinds are measured in this order. The first is what the others are compared with; the last ones have one
// thing more that Leasehold has as well, or one less.
var publishKinds = []publishKind{
	{name: "bare", start: bareKind(bareOptions{})},
	{name: "leasehold", start: leaseholdKind(leaseholdOptions{})},
	{name: "other", start: leaseholdKind(leaseholdOptions{other: true}), other: true},
	{name: "leasehold-group", start: leaseholdKind(leaseholdOptions{group: true})},
	{name: "other-group", start: leaseholdKind(leaseholdOptions{group: true, other: true}), other: true},
	{name: "leasehold-group-rare-commits", start: leaseholdKind(leaseholdOptions{group: true, rare: true})},
	{name: "leasehold-user", start: leaseholdKind(leaseholdOptions{user: true})},
	{name: "other-user", start: leaseholdKind(leaseholdOptions{user: true, other: true}), other: true},
	{name: "bare-route-tls", start: bareKind(bareOptions{routeTLS: true})},
	{name: "bare-accounts", start: bareKind(bareOptions{accounts: true})},
	{name: "bare-discard-old", start: bareKind(bareOptions{discardOld: true})},
}

// leads is which node leads the stream.
func (r *publishRig) leads(t *testing.T) int {
	t.Helper()
	node := -1
	Eventually(t, moveLimit, func() error {
		name, err := r.leader()
		if err == nil {
			node = slices.Index([]string{"n1", "n2", "n3"}, name)
		}
		if err == nil && node < 0 {
			err = fmt.Errorf("the stream's leader is %q", name)
		}
		return err
	})
	return node
}

// leaseholdOptions are what a cluster of Leasehold has beside its topic.
type leaseholdOptions struct {
	group bool // A group that handles every message, and does nothing with it.
	rare  bool // The group's progress is stored once a minute.
	user  bool // Clients show a key, over TLS; else they need no credentials.
	other bool // It runs the build that -publish-other names.
}

func leaseholdKind(o leaseholdOptions) func(t *testing.T) *publishRig {
	return func(t *testing.T) *publishRig {
		t.Helper()
		spec := Spec{LogLevel: "info", Topics: []Topic{{
			Name: publishTopic.Name, Partitions: publishTopic.Partitions, Extra: fmt.Sprintf("max_bytes = %q", publishTopic.MaxBytes),
		}}}
		if o.other {
			spec.Binary = *publishOther
		}
		r := &publishRig{settle: func() {}}
		if o.user {
			r.options = append(r.options, keyUser(t, &spec))
		}
		c := New(t, spec)
		r.leader = c.topicLeader
		if o.group {
			c.addGroup(o.discards())
			r.settle = func() { c.WaitDrained(drainLimit, faultGroup) }
		}
		c.StartAll(startLimit)
		if o.group {
			c.WaitBalanced(moveLimit, faultGroup)
		}
		if o.user {
			r.options = append(r.options, c.trusted())
		}
		for _, n := range c.Nodes {
			r.pids, r.urls = append(r.pids, n.PID()), append(r.urls, n.clientURL())
		}
		return r
	}
}

// discards is the group.
func (o leaseholdOptions) discards() Group {
	g := Group{Name: faultGroup, Topic: publishTopic.Name, Handler: `{ kind = "discard" }`}
	if o.rare {
		g.Extra = `commit_interval = "1m"`
	}
	return g
}

// keyUser adds a user with a key, and TLS for clients.
func keyUser(t *testing.T, spec *Spec) nats.Option {
	t.Helper()
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	spec.Server = `tls = { mode = "cluster-ca" }`
	spec.Users = fmt.Sprintf("[[user]]\nname = \"press\"\nnkey = %q\npublish = [%q]\n", public, publishTopic.Name)
	return nats.Nkey(public, key.Sign)
}

// trusted has clients trust the cluster's CA.
func (c *Cluster) trusted() nats.Option {
	c.t.Helper()
	ca, err := c.CLI("tls", "ca")
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(ca) {
		c.t.Fatalf("leasehold tls ca: %v: %s", err, ca)
	}
	return nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13})
}

// topicLeader is the node that leads the topic's stream.
func (c *Cluster) topicLeader() (string, error) {
	body, err := c.running()[0].get("/v1/topics")
	if err != nil {
		return "", err
	}
	var list struct {
		Topics []struct {
			Replicas []string `json:"replicas"` // The leader first.
		} `json:"topics"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return "", fmt.Errorf("topics: %w: %s", err, body)
	}
	if len(list.Topics) != 1 || len(list.Topics[0].Replicas) != 3 {
		return "", fmt.Errorf("not one topic with three copies: %s", body)
	}
	return list.Topics[0].Replicas[0], nil
}

// streamLeader is the same for the bare servers.
func (b *bareCluster) streamLeader() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), requestLimit)
	defer cancel()
	stream, err := b.js.Stream(ctx, publishTopic.Name)
	if err != nil {
		return "", err
	}
	if info := stream.CachedInfo().Cluster; info != nil {
		return info.Leader, nil
	}
	return "", errors.New("the servers are not a cluster")
}
