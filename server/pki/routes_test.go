package pki

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
	config, err := RouteTLS(secrets, now)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// The CA keys must never change for a given secret: nodes of different versions would refuse each other, and clients
// the nodes.
func TestAuthorityKeyIsFrozen(t *testing.T) {
	for purpose, want := range map[Purpose]string{
		RouteAuthority:  "7d88c18fed1a437be96669ca2b28a66995060664",
		ClientAuthority: "5afba0ebabb81f296ba5f46ca7c16ccb4f4b1905",
	} {
		ca, err := NewAuthority(secret(1), purpose)
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
	clocks := map[string]time.Time{
		"two weeks ahead": now.AddDate(0, 0, 14), "two weeks behind": now.AddDate(0, 0, -14),
		"40 days behind": now.AddDate(0, 0, -40),
		"40 days ahead":  now.AddDate(0, 0, 40), "at 1970": time.Unix(0, 0),
		"at 1904":     time.Date(1904, 1, 1, 0, 0, 0, 0, time.UTC),
		"before 2020": time.Date(2019, 12, 31, 0, 0, 0, 0, time.UTC), "at 2038": time.Unix(1<<31, 0),
		"at 2106": time.Unix(1<<32, 0), "at 2500": now.AddDate(474, 0, 0),
	}
	for name, clock := range clocks {
		wrong := mustTLS(t, at(clock), secret(1))
		if err := errors.Join(handshake(t, right, wrong), handshake(t, wrong, right)); err != nil {
			t.Errorf("clock %s beside a right one: %v", name, err)
		}
		// After a power cut every box without a clock of its own is wrong alike, and they must find each other.
		if err := handshake(t, wrong, mustTLS(t, at(clock), secret(1))); err != nil {
			t.Errorf("both clocks %s: %v", name, err)
		}
	}
}

// TestRoutesBearAClockThatIsSet: a step of the wall clock, either way, of a node that has shown its certificate
// already.
func TestRoutesBearAClockThatIsSet(t *testing.T) {
	now := time.Now()
	right := mustTLS(t, at(now), secret(1))
	for name, before := range map[string]time.Time{
		"40 days forward": now.AddDate(0, 0, -40), "from 1970": time.Unix(0, 0), "10 days back": now.AddDate(0, 0, 10),
		"a century back": now.AddDate(100, 0, 0),
	} {
		clock := before
		set := mustTLS(t, func() time.Time { return clock }, secret(1))
		for _, clock = range []time.Time{before, now} {
			if err := errors.Join(handshake(t, right, set), handshake(t, set, right)); err != nil {
				t.Errorf("%s, at %s: %v", name, clock.Format(time.DateOnly), err)
			}
		}
	}
}

func TestClientLeafIsRenewedBeforeItEndsAndWhenTheClockWasSet(t *testing.T) {
	now := time.Now()
	ca, err := NewAuthority(secret(1), ClientAuthority)
	if err != nil {
		t.Fatal(err)
	}
	leaves := &addressLeaves{ca: ca, names: []string{"n1"}, now: func() time.Time { return now }}
	serial := func() string {
		cert, err := leaves.leaf(nil)
		if err != nil {
			t.Fatal(err)
		}
		if left := cert.Leaf.NotAfter.Sub(now); left < clientLeafValidity-clientLeafRenewed-time.Second ||
			left > clientLeafValidity {
			t.Errorf("leaf ends %s from now", left)
		}
		return cert.Leaf.SerialNumber.String()
	}
	first := serial()
	if now = now.Add(time.Hour); serial() != first {
		t.Error("a fresh leaf was replaced")
	}
	now = now.Add(clientLeafRenewed)
	second := serial()
	if second == first {
		t.Error("an old leaf was kept")
	}
	if now = now.Add(-clientLeafRenewed); serial() == second {
		t.Error("a leaf from the future was kept")
	}
	// A step leaves the monotonic clock alone, so the age must not be measured by it.
	if k := leaves.by[""]; k.made != k.made.Round(0) {
		t.Error("a leaf's age is measured by the monotonic clock")
	}
}

func TestSecretsAreChecked(t *testing.T) {
	for _, bad := range [][][]byte{nil, {secret(1)[:31]}, {secret(1), nil}, {secret(1), secret(2), secret(3)}} {
		if _, err := RouteTLS(bad, time.Now); err == nil {
			t.Errorf("secrets %x were accepted", bad)
		}
	}
}
