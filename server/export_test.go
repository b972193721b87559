package server

import (
	"crypto/tls"
	"net"
	"time"

	"github.com/nats-io/nats.go"
)

// SystemConn is a connection in the brokers' own account.
func (s *Server) SystemConn() (*nats.Conn, error) { return s.connect("test", s.users.system) }

// IngressPipe is a client of an ingress user inside this process.
func (s *Server) IngressPipe(user string) (net.Conn, error) { return s.ingress.Dial(user) }

// RaftTimers reads back what the broker uses.
func RaftTimers() Timing {
	return Timing{Heartbeat: hbInterval, ElectionMin: minElectionTimeout, ElectionMax: maxElectionTimeout,
		LostQuorum: min(lostQuorumInterval, lostQuorumCheck)}
}

// StockHeartbeat is nats-server's own (v2.15.2, server/raft.go: hbIntervalDefault).
const StockHeartbeat = time.Second

// InternalUser is what Conn("test") connects with.
func (s *Server) InternalUser() (public string, sign nats.SignatureHandler) {
	public, _ = s.users.roles[everything].key.PublicKey()
	return public, s.users.roles[everything].key.Sign
}

// ClientLeaf is a certificate for clients, signed by the CA that clients trust.
func ClientLeaf(secret []byte) (tls.Certificate, error) { return testLeaf(secret, clientAuthority) }

// RouteLeaf is what a node with this secret shows.
func RouteLeaf(secret []byte) (tls.Certificate, error) { return testLeaf(secret, routeAuthority) }

func testLeaf(secret []byte, p purpose) (tls.Certificate, error) {
	ca, err := newAuthority(secret, p)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := newLeaf(ca, routeLeaf())
	if err != nil {
		return tls.Certificate{}, err
	}
	return *leaf, nil
}
