package server

import (
	"bufio"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	broker "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"leasehold/internal/memory"
	"leasehold/server/access"
	"leasehold/server/ingress"
	"leasehold/server/pki"
)

// The node's own users of the ingress, which may publish to every topic. No configured user can have these names.
const (
	HTTPUser  = "@http"  // publishes what is brought over HTTP
	ProbeUser = "@probe" // tries whether topics take messages
)

// ingressUsers are the users that the ingress lets in.
func (o Options) ingressUsers() []ingress.User {
	users := []ingress.User{{Name: HTTPUser, Publish: o.PublishSubjects},
		{Name: ProbeUser, Publish: o.PublishSubjects, Background: true}}
	if o.admitsAnyone() {
		users = append(users, ingress.User{Name: ingress.Anonymous, Publish: o.PublishSubjects})
	}
	for _, u := range o.Users {
		w := ingress.User{Name: u.Name, PasswordHash: u.PasswordHash, NKey: u.NKey, Publish: u.Publish}
		for _, g := range u.Serve {
			w.Serve = append(w.Serve, access.ServeSubject(g))
		}
		users = append(users, w)
	}
	return users
}

// admitsAnyone reports whether clients need no credentials: only where nobody but this machine can reach the listener.
func (o Options) admitsAnyone() bool { return access.IsLoopback(o.Listen) }

// Bounds of what clients make a node hold.
const (
	maxSubscriptions = 1000 // of one connection
	// a second of one user, beside its messages: what a fleet of its devices needs to come back at once
	maxOperations    = 5000
	maxUnanswered    = 8192     // messages that the broker has not answered, of all clients
	maxUnansweredMem = 32 << 20 // bytes of them, and as much again of messages that are not there as a whole
	unansweredPart   = 12       // at most one part in so many of the memory limit is for each of the two
	descriptorsKept  = 512      // for the store, the cluster and handlers
)

// limits are what the ingress bounds.
func (o Options) limits() (ingress.Limits, error) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return ingress.Limits{}, fmt.Errorf("ask for the limit of open files: %w", err)
	}
	descriptors := int(min(files.Cur, 1<<20))
	return ingress.Limits{
		Connections:   min(o.MaxConnections, max(descriptors/4, descriptors-descriptorsKept)),
		Subscriptions: maxSubscriptions,
		MaxPayload:    int(o.MaxPayload),
		Messages:      maxUnanswered,
		Operations:    cmp.Or(o.Operations, maxOperations),
		Bytes:         max(memory.Share(maxUnansweredMem, unansweredPart), 2*int64(o.MaxPayload)),
	}, nil
}

// listen takes the port for clients.
func (s *Server) listen() error {
	tls, err := pki.ListenerTLS(s.opt.TLS, s.opt.Secrets, s.opt.Logger)
	if err != nil {
		return fmt.Errorf("server.tls: %w", err)
	}
	limits, err := s.opt.limits()
	if err != nil {
		return err
	}
	host, port, err := splitListen(s.opt.Listen)
	if err != nil {
		return fmt.Errorf("server.listen: %w", err)
	}
	s.ingress, err = ingress.New(ingress.Options{
		Listen: net.JoinHostPort(host, fmt.Sprint(max(port, 0))), TLS: tls, Users: s.opt.ingressUsers(), Limits: limits,
		Name: s.opt.Node, Version: broker.VERSION, Connect: s.connectClient, Log: s.opt.Logger.Named("ingress"),
	})
	return explainListen("server.listen", s.opt.Listen, err)
}

// explainListen says in words for an operator why an address cannot be listened on.
func explainListen(key, addr string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%s: %s is in use by another process; stop that process, or set another port", key, addr)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("%s: %s is not an address of this machine", key, addr)
	}
	return fmt.Errorf("%s: listen on %s: %w", key, addr, err)
}

// loginLimit bounds the login of a connection to our own broker.
const loginLimit = 5 * time.Second

// connectClient makes a connection to the broker for a user of the ingress. It speaks the protocol itself: the ingress
// passes lines on, and a client library would read them again.
func (s *Server) connectClient(user string) (up ingress.Upstream, err error) {
	who, ok := s.users.roles[ingressRole(user)]
	if !ok {
		return up, fmt.Errorf("no user %q", user)
	}
	conn, err := s.broker.InProcessConn()
	if err != nil {
		return up, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, conn.Close())
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(loginLimit)); err != nil {
		return up, err
	}
	if err := who.logIn(conn, user); err != nil {
		return up, err
	}
	return ingress.Upstream{Conn: conn, Inbox: who.inbox + "."}, conn.SetDeadline(time.Time{})
}

// logIn reads the broker's greeting, shows the key and waits for the broker's word.
func (i identity) logIn(conn net.Conn, name string) error {
	lines := bufio.NewReader(conn) // reads nothing beyond the PONG: nothing comes before it is asked for
	var info struct{ Nonce string }
	greeting, err := lines.ReadString('\n')
	if err != nil {
		return fmt.Errorf("wait for the broker's greeting: %w", err)
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(greeting, "INFO ")), &info); err != nil {
		return fmt.Errorf("read the broker's greeting: %w", err)
	}
	signature, err := i.key.Sign([]byte(info.Nonce))
	if err != nil {
		return err
	}
	public, err := i.key.PublicKey()
	if err != nil {
		return err
	}
	hello, err := json.Marshal(map[string]any{
		"nkey": public, "sig": base64.RawURLEncoding.EncodeToString(signature), "name": "ingress " + name, "lang": "go",
		"verbose": false, "pedantic": false, "headers": true, "no_responders": true, "protocol": 1,
	})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "CONNECT %s\r\nPING\r\n", hello); err != nil {
		return fmt.Errorf("log in to the broker: %w", err)
	}
	for {
		switch line, err := lines.ReadString('\n'); {
		case err != nil:
			return fmt.Errorf("log in to the broker: %w", err)
		case strings.HasPrefix(line, "PONG"):
			return nil
		case strings.HasPrefix(line, "-ERR"):
			return fmt.Errorf("log in to the broker: %s", strings.TrimSpace(line))
		}
	}
}

// IngressConn makes a connection through the ingress, as any client has it, for one of the node's own users.
func (s *Server) IngressConn(user string) (*nats.Conn, error) {
	if !isClosed(s.started) {
		return nil, errNotStarted
	}
	return s.open(roleIngress, nats.InProcessServer(fromInside{s.ingress, user}))
}

// fromInside gives the client library its connection.
type fromInside struct {
	ingress *ingress.Ingress
	user    string
}

// InProcessConn is what nats.go calls.
func (i fromInside) InProcessConn() (net.Conn, error) { return i.ingress.Dial(i.user) }

// Refused counts what the ingress has refused since the start, by user and reason.
func (s *Server) Refused() []ingress.Refused {
	if !isClosed(s.started) {
		return nil
	}
	return s.ingress.Refused()
}
