package node

import (
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster"
	"leasehold/internal/supervise"
	"leasehold/server"
)

// conns are the node's connections to its broker, one for each role: what goes wrong with one does not concern the
// others. HTTP ingest has one more of its own.
type conns struct {
	all []*nats.Conn

	peers, services, probe              *nats.Conn
	readers, letters, publish, operator jetstream.JetStream

	// What the lease protocol writes through. Everything else about the bucket goes over the operator's connection.
	leases *cluster.KV
}

// openConns connects to a broker that has started.
func (n *Node) openConns() error {
	c := &n.conns
	var err error
	if c.peers, err = n.openConn(server.Peers); err != nil {
		return err
	}
	if c.services, err = n.openConn(server.Services); err != nil {
		return err
	}
	if c.probe, err = n.broker.IngressConn(server.ProbeUser); err != nil {
		return err
	}
	c.all = append(c.all, c.probe)
	for _, js := range []struct {
		role server.Role
		into *jetstream.JetStream
	}{{server.Readers, &c.readers}, {server.DeadLetters, &c.letters}, {server.Publish, &c.publish},
		{server.Operator, &c.operator}} {
		nc, err := n.openConn(js.role)
		if err == nil {
			*js.into, err = jetstream.New(nc)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) openConn(role server.Role) (*nats.Conn, error) {
	nc, err := n.broker.Conn(role)
	if err == nil {
		n.conns.all = append(n.conns.all, nc)
	}
	return nc, err
}

func (c *conns) close() {
	for _, nc := range c.all {
		nc.Close()
	}
}

// connClosed ends this run: without the connection a part of the node would stall, and nothing would say so. The next
// run makes new ones.
func (n *Node) connClosed(role server.Role, err error) {
	n.stop(&supervise.RestartError{Reason: fmt.Sprintf("the broker ended the connection of the role %s: %v", role, err),
		Fault: true})
}
