package api

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"leasehold/internal/api/guard"
	"leasehold/internal/api/listen"
	"leasehold/internal/memory"
)

// Options are what a Server needs.
type Options struct {
	Listen string // host:port, loopback only without a Token; empty: no port.
	Socket string // Path of the Unix socket; empty: none. Beside it is another that only shows state.
	Source Source
	// Alive says why the process should be replaced, nil if nothing suggests it; a nil function means that nothing ever
	// does.
	Alive func() error
	// Membership answers about nodes, groups and topics, and removes them; nil: there are no such routes.
	Membership Membership
	// Requests serves operator commands on groups and on their dead letters; nil: there are no such routes.
	Requests Requests
	// Messages takes and shows messages of topics; nil: there are no such routes.
	Messages Messages
	// Explainer says where keys and messages are; nil: there is no such route.
	Explainer Explainer
	// Token is what callers on the port must show for all but health; empty: nothing. The socket's file mode protects
	// the socket.
	Token string
	// ChildrenChange lets processes that descend from this one make changes, as handlers may not. For tests.
	ChildrenChange bool
	// MaxPayload is what one message may have, in bytes; there is memory for the bodies of a few of them in any case.
	MaxPayload int64
	TLS        *tls.Config  // Of the port; nil: none.
	Logger     hclog.Logger // nil logs nothing.

	limits limits // For tests; zero fields for the usual.
}

// limits bound what callers may take.
type limits struct {
	bodies      int64 // Bytes of all bodies together.
	connections int   // Of each listener.
	pace, body  time.Duration
}

func (l limits) withDefaults(maxPayload int64) limits {
	return limits{
		bodies:      cmp.Or(l.bodies, max(memory.Share(maxBodies, bodiesPart), 8*maxPayload)),
		connections: cmp.Or(l.connections, listen.Limit()),
		pace:        cmp.Or(l.pace, paceTimeout), body: cmp.Or(l.body, bodyTimeout),
	}
}

// Server answers on a port and a socket.
type Server struct {
	opt     Options
	log     hclog.Logger
	http    *http.Server
	started chan struct{} // Closed once both listeners are up; addr is set before.
	closing chan struct{} // Closed when the server is told to stop: answers without an end must end.
	addr    string
}

// Limits that keep a stuck or hostile client of this machine from holding the node's resources.
const (
	readTimeout   = 10 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 48 << 10        // The headers of a message, and what else belongs to a request.
	shutdownLimit = 2 * time.Second // For answers under way when the node stops.
)

// New checks the options. It starts nothing.
func New(opt Options) (*Server, error) {
	if opt.Listen != "" {
		if err := listen.Check(opt.Listen, opt.Token != ""); err != nil {
			return nil, fmt.Errorf("http.listen: %w", err)
		}
	}
	opt.limits = opt.limits.withDefaults(opt.MaxPayload)
	s := &Server{opt: opt, log: opt.Logger, started: make(chan struct{}), closing: make(chan struct{})}
	if s.log == nil {
		s.log = hclog.NewNullLogger()
	}
	s.http = &http.Server{
		Handler: guard.Surplus(guard.ReadRest(guard.CloseStrangers(opt.Token,
			guard.Host(opt.Token, guard.Token(opt.Token, newHandler(opt, s.log, s.closing)))))),
		ConnState:         listen.State,
		ConnContext:       listen.WithOrigin,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          s.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	return s, nil
}

// Started is closed once the server answers.
func (s *Server) Started() <-chan struct{} { return s.started }

// Addr is the address that the port was bound to. It is known once Started is closed.
func (s *Server) Addr() string {
	<-s.started
	return s.addr
}

// Run answers until ctx ends; then it lets answers under way finish, within a limit, and returns nil.
func (s *Server) Run(ctx context.Context) error {
	listeners, err := s.listen()
	if err != nil {
		return err
	}
	if s.opt.Socket != "" {
		defer os.Remove(s.opt.Socket)
		defer os.Remove(listen.ReadOnlySocket(s.opt.Socket))
	}
	close(s.started)
	group, ctx := errgroup.WithContext(ctx)
	for _, l := range listeners {
		group.Go(func() error { return ignoreClosed(s.http.Serve(l)) })
	}
	group.Go(func() error {
		<-ctx.Done()
		return s.shutdown(context.WithoutCancel(ctx))
	})
	return group.Wait()
}

func (s *Server) listen() (listeners []net.Listener, err error) {
	if s.opt.Listen != "" {
		l, err := listen.TCP(s.opt.Listen)
		if err != nil {
			return nil, err
		}
		s.addr = l.Addr().String()
		l = listen.NewBounded(l, s.opt.limits.connections)
		if s.opt.TLS != nil {
			l = tls.NewListener(l, s.opt.TLS)
		}
		listeners = append(listeners, l)
	}
	if s.opt.Socket != "" {
		sockets, err := s.listenSockets()
		if err != nil {
			closeAll(listeners)
			return nil, err
		}
		listeners = append(listeners, sockets...)
	}
	return listeners, nil
}

// listenSockets makes the socket for everything and the one that only shows state.
func (s *Server) listenSockets() (sockets []net.Listener, err error) {
	for _, at := range []struct {
		path     string
		mode     os.FileMode
		readOnly bool
	}{{s.opt.Socket, listen.SocketMode, false}, {listen.ReadOnlySocket(s.opt.Socket), listen.ReadOnlyMode, true}} {
		l, err := listen.Unix(at.path, at.mode)
		if err != nil {
			closeAll(sockets)
			return nil, err
		}
		bounded := listen.NewBounded(l, s.opt.limits.connections)
		bounded.ReadOnly = at.readOnly
		sockets = append(sockets, bounded)
	}
	return sockets, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

func (s *Server) shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shutdownLimit)
	defer cancel()
	close(s.closing)
	if err := s.http.Shutdown(ctx); err != nil {
		return ignoreClosed(s.http.Close())
	}
	return nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
