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

// openAll connects to a broker that has started, in every role but that of the leases.
func (c *conns) openAll(broker *server.Server) error {
	var err error
	if c.peers, err = c.open(broker, server.Peers); err != nil {
		return err
	}
	if c.services, err = c.open(broker, server.Services); err != nil {
		return err
	}
	if c.probe, err = broker.IngressConn(server.ProbeUser); err != nil {
		return err
	}
	c.all = append(c.all, c.probe)
	for _, js := range []struct {
		role server.Role
		into *jetstream.JetStream
	}{{server.Readers, &c.readers}, {server.DeadLetters, &c.letters}, {server.Publish, &c.publish},
		{server.Operator, &c.operator}} {
		nc, err := c.open(broker, js.role)
		if err == nil {
			*js.into, err = jetstream.New(nc)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *conns) open(broker *server.Server, role server.Role) (*nats.Conn, error) {
	nc, err := broker.Conn(role)
	if err == nil {
		c.all = append(c.all, nc)
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
