package server

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// brokerLog is the broker's logger. It makes its notices quiet, its repetitions rare and its Fatalf an error.
type brokerLog struct {
	log hclog.Logger

	fatal chan error // buffered 1: the first Fatalf; the broker must then be stopped

	routes *routes // told of every route that is made or ends

	removed     atomic.Bool // the broker says that its server was removed from the cluster
	writeFailed atomic.Bool // the broker could not write to a file of a store

	mu      sync.Mutex
	last    map[string]time.Time // when a warning was last shown, by its text without numbers; at most maxKept
	refused refusal              // last route that was refused
}

// refusal is a route that could not be made, as health tells it.
type refusal struct {
	at     time.Time
	reason string
}

func newBrokerLog(log hclog.Logger, routes *routes) *brokerLog {
	return &brokerLog{log: log, routes: routes, fatal: make(chan error, 1), last: make(map[string]time.Time)}
}

// importantNotices are logged at info. The rest of the broker's notices are for debugging.
var importantNotices = []string{
	"Self is new JetStream cluster metadata leader",
	"JetStream cluster new metadata leader",
	"JetStream cluster no metadata leader",
	"JetStream cluster evicted peers",
	"Slow Consumer",
}

// Noticef shows a few notices. The broker may hold locks here.
func (l *brokerLog) Noticef(format string, v ...any) {
	l.routes.notice(format, v)
	text := fmt.Sprintf(format, v...)
	for _, part := range importantNotices {
		if strings.Contains(text, part) {
			l.log.Info(text)
			return
		}
	}
	l.log.Debug(text)
}

// usualWarnings belong to every start and stop of a healthy cluster. What they wait for is what Ready says.
var usualWarnings = []string{
	"Waiting for routing to be established",
	"JetStream has not established contact with a meta leader",
	"Metalayer blocking snapshot",
}

// Warnf shows a warning once a minute.
func (l *brokerLog) Warnf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	for _, part := range usualWarnings {
		if strings.Contains(text, part) {
			l.log.Debug(text)
			return
		}
	}
	l.logRateLimited(hclog.Warn, text)
}

// Errorf is an error, unless it is about a route or a client: another node may be down or refuse us, a client may try
// what it may not, and we cope with that.
func (l *brokerLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	level := hclog.Error
	switch {
	case strings.Contains(text, routeDialText):
		level = hclog.Info // every first start has some
	case strings.Contains(text, routeMark):
		level = hclog.Warn
		l.noteRefusal(text)
	case strings.Contains(text, clientMark):
		level = hclog.Warn
	case strings.Contains(text, removedText):
		l.removed.Store(true)
	case strings.Contains(text, writeFailedText):
		l.writeFailed.Store(true)
	}
	l.logRateLimited(level, text)
}

// Fatalf reports that the broker must be stopped. It must not wait for that, since the broker may hold its own locks
// here.
func (l *brokerLog) Fatalf(format string, v ...any) {
	err := fmt.Errorf(format, v...)
	l.log.Error("broker failed", "error", err)
	select {
	case l.fatal <- err:
	default: // the first one is the cause
	}
}

// Debugf is far too much for our debug level.
func (l *brokerLog) Debugf(format string, v ...any) { l.log.Trace(fmt.Sprintf(format, v...)) }

// Tracef likewise.
func (l *brokerLog) Tracef(format string, v ...any) { l.log.Trace(fmt.Sprintf(format, v...)) }

const (
	repeatEvery = time.Minute // the same warning is shown no oftener
	maxKept     = 256         // texts remembered for that
	refusalKept = 15 * time.Second
)

// digits differ between repetitions of the same message: ports, connection ids, attempts, hashes.
var digits = regexp.MustCompile(`[0-9]+`)

// quoted is what clients say, in messages about them.
var quoted = regexp.MustCompile(`"[^"]*"`)

func (l *brokerLog) logRateLimited(level hclog.Level, text string) {
	if l.loggedLately(text) {
		level = hclog.Debug
	}
	l.log.Log(level, text)
}

func (l *brokerLog) loggedLately(text string) bool {
	key, now := digits.ReplaceAllString(text, "#"), time.Now()
	if strings.Contains(text, clientMark) {
		key = quoted.ReplaceAllString(key, "") // a client can make up names and subjects without end
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.last[key]; ok && now.Sub(at) < repeatEvery {
		return true
	}
	if len(l.last) >= maxKept {
		clear(l.last)
	}
	l.last[key] = now
	return false
}

// Texts of nats-server v2.15.2 (server/route.go, server/client.go). TestWrongSecretIsRefusedVisibly and
// TestOtherClusterIsRefusedVisibly notice a change.
const (
	routeMark       = " - rid:" // after the remote address, in every message about a route
	clientMark      = " - cid:" // likewise about a client
	handshakeText   = "TLS route handshake error"
	clusterNameText = "Rejecting connection, cluster name"
	routeDialText   = "Error trying to connect to route"
	writeFailedText = "Critical write error"                    // server/filestore.go and raft.go
	removedText     = "our server was removed from the cluster" // server/jetstream_cluster.go
)

// noteRefusal keeps why a route was refused. A node that is merely down does not count.
func (l *brokerLog) noteRefusal(text string) {
	reason := explainRefusal(text)
	if reason == "" {
		return
	}
	l.mu.Lock()
	l.refused = refusal{at: time.Now(), reason: reason}
	l.mu.Unlock()
}

// explainRefusal says in plain words what an operator should check.
func explainRefusal(text string) string {
	from, _, _ := strings.Cut(text, routeMark)
	if host, _, err := net.SplitHostPort(from); err == nil {
		from = host // the port is a random one if the other side made the connection
	}
	switch {
	case strings.Contains(text, handshakeText) && strings.Contains(text, "x509: certificate has expired"):
		return fmt.Sprintf("the certificate of the node at %s has expired: compare the clocks of the machines", from)
	case strings.Contains(text, handshakeText) && strings.Contains(text, "remote error: tls: expired certificate"):
		return fmt.Sprintf("the node at %s takes this node's certificate for expired: compare the clocks of the machines, "+
			"and their versions", from)
	case strings.Contains(text, handshakeText) && isCertificateTrouble(text):
		return fmt.Sprintf("the node at %s has another cluster secret: cluster.secret_file must be the same on every node",
			from)
	case strings.Contains(text, clusterNameText):
		return fmt.Sprintf("the node at %s belongs to another cluster: cluster.name must be the same on every node", from)
	}
	return ""
}

// isCertificateTrouble tells a refused certificate, by us or by the other side, from a broken connection.
func isCertificateTrouble(text string) bool {
	return strings.Contains(text, "x509:") || strings.Contains(text, "remote error: tls:")
}

// recentRefusal is why a route was refused within the last seconds, "" if none was.
func (l *brokerLog) recentRefusal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.refused.at) > refusalKept {
		return ""
	}
	return l.refused.reason
}
