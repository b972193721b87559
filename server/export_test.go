package server

import (
	"crypto/tls"
	"leasehold/server/pki"
	"net"
	"time"

	"github.com/nats-io/nats.go"
)

// SystemConn is a connection in the brokers' own account.
func (s *Server) SystemConn() (*nats.Conn, error) { return s.connect("test", s.users.system) }

// IngressPipe is a client of an ingress user inside this process.
func (s *Server) IngressPipe(user string) (net.Conn, error) { return s.ingress.Dial(user) }

// StockHeartbeat is nats-server's own (v2.15.2, server/raft.go: hbIntervalDefault).
const StockHeartbeat = time.Second

// InternalUser is what Conn("test") connects with.
func (s *Server) InternalUser() (public string, sign nats.SignatureHandler) {
	public, _ = s.users.roles[unlimitedRole].key.PublicKey()
	return public, s.users.roles[unlimitedRole].key.Sign
}

// ClientLeaf is a certificate for clients, signed by the CA that clients trust.
func ClientLeaf(secret []byte) (tls.Certificate, error) { return testLeaf(secret, pki.ClientAuthority) }

// RouteLeaf is what a node with this secret shows.
func RouteLeaf(secret []byte) (tls.Certificate, error) { return testLeaf(secret, pki.RouteAuthority) }

func testLeaf(secret []byte, p pki.Purpose) (tls.Certificate, error) {
	ca, err := pki.NewAuthority(secret, p)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := pki.NewLeaf(ca, pki.RouteLeaf())
	if err != nil {
		return tls.Certificate{}, err
	}
	return *leaf, nil
}
