package server

import (
	"errors"
	"net"
	"reflect"
	"sync"
	"unsafe"

	broker "github.com/nats-io/nats-server/v2/server"
)

// noListener is what the broker accepts clients from: nobody. All clients come over the ingress, in process. The
// broker's own way to have no listener, the option DontListen, does not do: with it a clustered broker never starts its
// routes, for they wait for the clients' listener (nats-server v2.15.2, server/server.go, Start: clientListenReady).
type noListener struct {
	once   sync.Once
	closed chan struct{}
}

// Accept waits for the end.
func (l *noListener) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

// Close ends Accept.
func (l *noListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is an address of the type that the broker expects.
func (l *noListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// withoutListener has a broker that has not been started accept no clients but in-process ones. The broker takes a
// listener that is there already in place of one of its own (getServerListener), but has no function to give it one.
// Should the field vanish in a later version, the error says so.
func withoutListener(b *broker.Server) error {
	field := reflect.ValueOf(b).Elem().FieldByName("listener")
	if !field.IsValid() || field.Type() != reflect.TypeFor[net.Listener]() {
		return errors.New("nats-server " + broker.VERSION +
			" keeps its client listener elsewhere than version 2.15.2 did: see server/nolistener.go")
	}
	l := net.Listener(&noListener{closed: make(chan struct{})})
	reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem().Set(reflect.ValueOf(&l).Elem())
	return nil
}
