package node

import (
	"fmt"
	"slices"

	"leasehold/internal/config"
	"leasehold/server"
	"leasehold/server/pki"
	"leasehold/server/raft"
)

// newBroker builds the embedded server.
func (n *Node) newBroker(secrets config.Secrets) (*server.Server, error) {
	c := n.Config
	timing, err := raft.TimingByName(c.Cluster.Timing)
	if err != nil {
		return nil, err
	}
	users, err := c.ReadUsers()
	if err != nil {
		return nil, err
	}
	if c.Server.TLS.UsesSecret() {
		ca, err := pki.ClientCA(secrets.Keys)
		if err != nil {
			return nil, err
		}
		n.clientCA = string(ca)
	}
	handlers, err := c.CheckHandlerFiles()
	if err != nil {
		return nil, err
	}
	for _, w := range slices.Concat(c.Warnings(), secrets.Warnings, handlers) {
		n.log.Warn(w)
	}
	var subjects, topics, groups []string
	for _, t := range c.Topics {
		subjects, topics = append(subjects, t.Subject), append(topics, t.Name)
	}
	for _, g := range c.Groups {
		groups = append(groups, g.Name)
	}
	return server.New(server.Options{
		Config: c.Server, Identity: c.Identity(), Dir: n.dir,
		ClusterListen: c.ClusterListen(), Advertise: c.Cluster.Advertise, Peers: c.Peers(),
		Secrets: secrets.Keys, Timing: timing, PublishSubjects: subjects, Topics: topics, Groups: groups, Users: users,
		BeforeClose: n.beforeClose, CutOff: n.cutOff, ConnClosed: n.connClosed, Logger: n.Logger,
	})
}

// beforeClose makes sure that no call runs once the cluster port is closed: other nodes take that as proof. In an
// orderly stop all lanes are joined by then; when the broker gives up by itself they are joined here.
func (n *Node) beforeClose(cause error) {
	if cause == nil {
		return
	}
	if driver := n.stage.close(); driver != nil {
		driver.Abort(fmt.Errorf("the broker gave up: %w", cause))
	}
}

// cutOff has the driver end all calls: to the others this node may look dead.
func (n *Node) cutOff() {
	driver := n.stage.leases()
	if driver != nil && n.Config.Cluster.FastTakeover {
		driver.Isolated() // first: a log can be slow
		n.log.Warn("lost all cluster routes; pausing calls until a renewal succeeds")
	}
}
