package server

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"net"
	"testing"
	"time"
)

func secret(b byte) []byte { return bytes.Repeat([]byte{b}, secretBytes) }

// at is a clock that stands still.
func at(t time.Time) func() time.Time { return func() time.Time { return t } }

// handshake connects a route from a client node to a server node and sends a byte each way: in TLS 1.3 a client learns
// only with the first read whether its own certificate was taken.
func handshake(t *testing.T, client, server *tls.Config) error {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = echo(tls.Server(conn, server))
		}
		served <- err
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return errors.Join(echo(tls.Client(conn, client)), <-served)
}

func echo(conn *tls.Conn) error {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, err := conn.Write([]byte{1})
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	return err
}

func mustTLS(t *testing.T, now func() time.Time, secrets ...[]byte) *tls.Config {
	t.Helper()
	config, err := routeTLS(secrets, now)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// The CA keys must never change for a given secret: nodes of different versions would refuse each other, and clients
// the nodes.
func TestAuthorityKeyIsFrozen(t *testing.T) {
	for purpose, want := range map[purpose]string{
		routeAuthority: "7d88c18fed1a437be96669ca2b28a66995060664", clientAuthority: "5afba0ebabb81f296ba5f46ca7c16ccb4f4b1905",
	} {
		ca, err := newAuthority(secret(1), purpose)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(ca.cert.SubjectKeyId); got != want {
			t.Errorf("key id of the %s of secret 01…01 is %s, want %s", purpose.name, got, want)
		}
	}
}

func TestRoutesNeedACommonSecret(t *testing.T) {
	now := at(time.Now())
	same, other := mustTLS(t, now, secret(1)), mustTLS(t, now, secret(2))
	if err := handshake(t, same, mustTLS(t, now, secret(1))); err != nil {
		t.Errorf("same secret: %v", err)
	}
	if handshake(t, other, same) == nil || handshake(t, same, other) == nil {
		t.Error("another secret was accepted")
	}
	// A client that trusts the server but shows a leaf of its own secret: the server must refuse it.
	if handshake(t, mustTLS(t, now, secret(2), secret(1)), same) == nil {
		t.Error("a leaf of another secret was accepted")
	}
	if handshake(t, &tls.Config{InsecureSkipVerify: true}, same) == nil {
		t.Error("a client without a certificate was accepted")
	}
}

func TestSecretsChangeInThreeRoundsWithoutARefusal(t *testing.T) {
	now := at(time.Now())
	rounds := [][][]byte{{secret(1)}, {secret(1), secret(2)}, {secret(2), secret(1)}, {secret(2)}}
	for i := range len(rounds) - 1 {
		before, after := mustTLS(t, now, rounds[i]...), mustTLS(t, now, rounds[i+1]...)
		if err := errors.Join(handshake(t, before, after), handshake(t, after, before)); err != nil {
			t.Errorf("round %d beside round %d: %v", i, i+1, err)
		}
	}
}

func TestRoutesBearWrongClocks(t *testing.T) {
	now := time.Now()
	right := mustTLS(t, at(now), secret(1))
	for name, clock := range map[string]time.Time{
		"two weeks ahead": now.Add(14 * 24 * time.Hour), "two weeks behind": now.Add(-14 * 24 * time.Hour),
	} {
		wrong := mustTLS(t, at(clock), secret(1))
		if err := errors.Join(handshake(t, right, wrong), handshake(t, wrong, right)); err != nil {
			t.Errorf("clock %s: %v", name, err)
		}
	}
	// After a power cut every box without a clock of its own is at 1970, and they must find each other.
	epoch := mustTLS(t, at(time.Unix(0, 0)), secret(1))
	if err := handshake(t, epoch, mustTLS(t, at(time.Unix(0, 0)), secret(1))); err != nil {
		t.Errorf("both clocks at 1970: %v", err)
	}
}

func TestLeafIsRenewedBeforeItEndsAndAfterTheClockWasSetBack(t *testing.T) {
	ca, err := newAuthority(secret(1), routeAuthority)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	make := func(now time.Time) (*tls.Certificate, error) { return newLeaf(ca, routeLeaf(), now) }
	keep := &leafKeeper{make: make, now: func() time.Time { return now }}
	serial := func() string {
		cert, err := keep.leaf()
		if err != nil {
			t.Fatal(err)
		}
		if cert.Leaf.NotAfter.Sub(now) < leafValidity-leafRenewed-time.Second {
			t.Errorf("leaf ends %s from now", cert.Leaf.NotAfter.Sub(now))
		}
		return cert.Leaf.SerialNumber.String()
	}
	first := serial()
	if now = now.Add(time.Hour); serial() != first {
		t.Error("a fresh leaf was replaced")
	}
	now = now.Add(leafRenewed)
	second := serial()
	if second == first {
		t.Error("an old leaf was kept")
	}
	if now = now.Add(-leafRenewed); serial() == second {
		t.Error("a leaf from the future was kept")
	}
}

func TestSecretsAreChecked(t *testing.T) {
	for _, bad := range [][][]byte{nil, {secret(1)[:31]}, {secret(1), nil}, {secret(1), secret(2), secret(3)}} {
		if _, err := routeTLS(bad, time.Now); err == nil {
			t.Errorf("secrets %x were accepted", bad)
		}
	}
}
