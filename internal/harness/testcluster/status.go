package testcluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"time"
)

// Status is what GET /v1/status says, as users see it: the fields of schema v1
// that tests look at, spelled again here so that a renamed one is noticed.
type Status struct {
	V       int           `json:"v"`
	Node    string        `json:"node"`
	Ready   bool          `json:"ready"`
	Quorum  bool          `json:"quorum"`
	Leader  string        `json:"leader"`
	Nodes   []NodeStatus  `json:"nodes"`
	Groups  []GroupStatus `json:"groups"`
	Warning []string      `json:"warnings"`
}

// NodeStatus is one node in a Status.
type NodeStatus struct {
	Name       string `json:"name"`
	Boot       uint64 `json:"boot"`
	State      string `json:"state"`
	Ready      bool   `json:"ready"`
	Partitions int    `json:"partitions"`
}

// GroupStatus is one group in a Status. A lag that is not known is nil.
type GroupStatus struct {
	Name    string  `json:"name"`
	Topic   string  `json:"topic"`
	Lag     *uint64 `json:"lag"`
	Unowned int     `json:"unowned"`
	// DeadLetters that the group has, those of parked keys among them.
	DeadLetters int               `json:"dead_letters"`
	Partitions  []PartitionStatus `json:"partitions"`
}

// PartitionStatus is one partition in a GroupStatus.
type PartitionStatus struct {
	Partition int     `json:"partition"`
	Owner     string  `json:"owner"`
	Epoch     uint64  `json:"epoch"`
	Done      uint64  `json:"done"`
	Lag       *uint64 `json:"lag"`
	State     string  `json:"state"`
	Error     string  `json:"error"`
	Parked    int     `json:"parked"` // Keys.
}

// Group finds a group by name, the zero value if it is not there.
func (s Status) Group(name string) GroupStatus {
	for _, g := range s.Groups {
		if g.Name == name {
			return g
		}
	}
	return GroupStatus{}
}

// Owned counts the partitions of the group that the node owns.
func (g GroupStatus) Owned(node string) int {
	n := 0
	for _, p := range g.Partitions {
		if p.Owner == node {
			n++
		}
	}
	return n
}

// RequestLimit bounds one request to a node; a paused node never answers.
const RequestLimit = 3 * time.Second

// Status asks the node for its view of the cluster.
func (n *Node) Status() (Status, error) {
	var s Status
	body, err := n.Get("/v1/status")
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return s, fmt.Errorf("status of %s: %w", n.Name, err)
	}
	return s, nil
}

// Ready is nil when /readyz says so, else what it says.
func (n *Node) Ready() error {
	_, err := n.Get("/readyz")
	return err
}

// client asks the port of a node with a token, else the socket: a port without one leaves texts out.
func (n *Node) client() *http.Client {
	if !n.Host.loopback() {
		return http.DefaultClient
	}
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(n.Host.DataDir, "leasehold.sock"))
		}}}
}

// Get asks the node for a path of its HTTP API.
func (n *Node) Get(path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), RequestLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.httpURL()+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+n.Cluster.token)
	resp, err := n.client().Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: read %s: %w", n.Name, path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s: %.500s", n.Name, path, resp.Status, body)
	}
	return body, nil
}

// Follower is a node that does not lead the cluster.
func (c *Cluster) Follower() *Node {
	c.T.Helper()
	s, err := c.Status()
	if err != nil {
		c.T.Fatal(err)
	}
	for _, n := range c.Nodes {
		if n.Name != s.Leader {
			return n
		}
	}
	c.T.Fatal("every node leads")
	return nil
}

// LagOf is the lag for a message: a number, or "unknown".
func LagOf(g GroupStatus) any {
	if g.Lag == nil {
		return "unknown"
	}
	return *g.Lag
}
