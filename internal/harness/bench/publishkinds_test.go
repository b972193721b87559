//go:build bench

package bench

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"leasehold/internal/bytesize"
	"leasehold/internal/harness/scenario"
	"leasehold/internal/harness/testcluster"
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
	testcluster.Eventually(t, testcluster.MoveLimit, func() error {
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
		spec := testcluster.Spec{LogLevel: "info", Topics: []testcluster.Topic{{
			Name: publishTopic.Name, Partitions: publishTopic.Partitions,
			Extra: fmt.Sprintf("max_bytes = %q", publishTopic.MaxBytes),
		}}}
		if o.other {
			spec.Binary = *publishOther
		}
		r := &publishRig{settle: func() {}}
		if o.user {
			r.options = append(r.options, keyUser(t, &spec))
		}
		c := testcluster.New(t, spec)
		r.leader = c.TopicLeader
		if o.group {
			c.AddGroup(o.discards())
			r.settle = func() { c.WaitDrained(testcluster.DrainLimit, scenario.Group) }
		}
		c.StartAll(testcluster.StartLimit)
		if o.group {
			c.WaitBalanced(testcluster.MoveLimit, scenario.Group)
		}
		if o.user {
			r.options = append(r.options, trusted(c))
		}
		for _, n := range c.Nodes {
			r.pids, r.urls = append(r.pids, n.PID()), append(r.urls, n.ClientURL())
		}
		return r
	}
}

// discards is the group.
func (o leaseholdOptions) discards() testcluster.Group {
	g := testcluster.Group{Name: scenario.Group, Topic: publishTopic.Name, Handler: `{ kind = "discard" }`}
	if o.rare {
		g.Extra = `commit_interval = "1m"`
	}
	return g
}

// keyUser adds a user with a key, and TLS for clients.
func keyUser(t *testing.T, spec *testcluster.Spec) nats.Option {
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
func trusted(c *testcluster.Cluster) nats.Option {
	c.T.Helper()
	ca, err := c.CLI("tls", "ca")
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(ca) {
		c.T.Fatalf("leasehold tls ca: %v: %s", err, ca)
	}
	return nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13})
}

// streamLeader is the same for the bare servers.
func (b *bareCluster) streamLeader() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), testcluster.RequestLimit)
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
