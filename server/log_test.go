package server

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func logInto(buf *bytes.Buffer) *brokerLog {
	return newBrokerLog(hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: buf}), newRoutes(nil))
}

func TestSameWarningIsShownOnce(t *testing.T) {
	var buf bytes.Buffer
	l := logInto(&buf)
	for i := range 5 {
		l.Warnf("10.0.0.1:%d - rid:%d - odd thing", 40000+i, i)
	}
	l.Warnf("another thing")
	if got := strings.Count(buf.String(), "\n"); got != 2 {
		t.Errorf("%d lines, want 2:\n%s", got, buf.String())
	}
}

// One client must not be able to fill the disk with what it may not do.
func TestClientThatTriesEverythingIsShownOnceAndAsAWarning(t *testing.T) {
	var buf bytes.Buffer
	l := logInto(&buf)
	for i := range 500 {
		l.Errorf(`10.0.0.9:%d - cid:%d - "v1" - "USER_a/user:a" - Publish Violation - Subject %q`, 40000+i, i,
			"x."+strings.Repeat("y", i))
		l.Errorf(`10.0.0.9:%d - cid:%d - authentication error - User %q`, 40000+i, i, strings.Repeat("z", i))
	}
	if got := strings.Count(buf.String(), "\n"); got != 2 || strings.Contains(buf.String(), "[ERROR]") {
		t.Errorf("%d lines, want 2 warnings:\n%s", got, buf.String())
	}
}

func TestOrdinaryStartIsQuiet(t *testing.T) {
	var buf bytes.Buffer
	l := logInto(&buf)
	l.Noticef("Starting nats-server")
	l.Warnf("Waiting for routing to be established...")
	l.Debugf("anything")
	if buf.Len() > 0 {
		t.Errorf("shown: %s", buf.String())
	}
	l.Noticef("Self is new JetStream cluster metadata leader")
	if !strings.Contains(buf.String(), "metadata leader") {
		t.Error("a new leader is not shown")
	}
}

func TestFirstFatalIsTheCause(t *testing.T) {
	l := newBrokerLog(hclog.NewNullLogger(), newRoutes(nil))
	l.Fatalf("first %d", 1)
	l.Fatalf("second") // must not block either
	if err := <-l.fatal; err.Error() != "first 1" {
		t.Errorf("cause is %v", err)
	}
}

func TestRefusalsAreExplained(t *testing.T) {
	const (
		theirs    = "10.0.0.3:4711 - rid:7 - TLS route handshake error: "
		ours      = "10.0.0.3:6222 - rid:7 - TLS route handshake error: "
		badVerify = ours + "tls: failed to verify certificate: x509: certificate "
	)
	for _, c := range []struct{ text, want string }{
		{theirs + "remote error: tls: bad certificate", "10.0.0.3 has another cluster secret"},
		{badVerify + "signed by unknown …", "10.0.0.3 has another cluster secret"},
		{badVerify + "has expired or is no", "clocks"},
		{theirs + "remote error: tls: expired certificate",
			"10.0.0.3 takes this node's certificate for expired: compare the clocks"},
		{`10.0.0.3:6222 - rid:7 - Rejecting connection, cluster name "a" does not match "b"`, "another cluster"},
		{ours + "EOF", ""},
		{"Error trying to connect to route (attempt 1): dial tcp 10.0.0.3:6222: connect: connection refused", ""},
	} {
		l := newBrokerLog(hclog.NewNullLogger(), newRoutes(nil))
		l.Errorf("%s", c.text)
		if got := l.recentRefusal(); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s\n is explained as %q, want %q", c.text, got, c.want)
		}
	}
}

// Texts as nats-server v2.15.2 writes them when a disk is full.
func TestFailedWritesAreNoticed(t *testing.T) {
	for text, want := range map[string]bool{
		"Filestore [KV_leasehold] Critical write error: write 1.blk: no space left on device":       true,
		"RAFT [G9v9V7y4 - _meta_] Critical write error: write tav.idx.tmp: no space left on device": true,
		"JetStream out of File resources, will be DISABLED":                                         false,
	} {
		l := newBrokerLog(hclog.NewNullLogger(), newRoutes(nil))
		l.Errorf("%s", text)
		if got := l.writeFailed.Load(); got != want {
			t.Errorf("%q: noticed %v, want %v", text, got, want)
		}
	}
}
