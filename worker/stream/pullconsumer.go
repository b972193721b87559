// Package stream reads JetStream streams: pull consumers on this node, single messages and counts from a stream's
// leader, and replicas that are read without one. It knows nothing of groups and lanes.
package stream

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// How a consumer asks for messages. A heartbeat of half a second costs nothing and finds a lost pull in two seconds,
// where the client library's default takes thirty.
const (
	PullBatch     = 1000
	pullExpiry    = 30 * time.Second
	pullHeartbeat = 500 * time.Millisecond
	TickInterval  = 250 * time.Millisecond // How often a consumer looks after itself.
	ReopenDelay   = 250 * time.Millisecond // Before another consumer is opened after one could not be.
	SilentTicks   = 8                      // Ticks without any message after which a consumer is lost.
	// For the first request to create a consumer; it may be lost with a leader.
	firstCreateTimeout   = 100 * time.Millisecond
	maxCreates           = 4                     // Requests, each with twice the timeout of the one before it.
	firstCreatePause     = 10 * time.Millisecond // After the first one; twice as long after each.
	placementInfoTimeout = time.Second           // For one request of the stream's state.
	inactivity           = 30 * time.Second      // After which the server removes a consumer that nobody pulls from.
)

// A server gives an R1 consumer to any node. It must be this one: then it dies only with the node, and never because
// another one did.
const (
	placementTries    = 24
	placementLimit    = 3 * time.Second
	relocateAfter     = 20 * time.Second // After which a consumer on another node is replaced.
	relocateAwayAfter = 5 * time.Minute  // The same if this node had no replica of the stream: it may have one now.
)

// About one pull in ten that follows a consumer's creation is lost. Until something has arrived it is repeated, at
// growing distances; an extra pull costs nothing.
const (
	firstRepull = 25 * time.Millisecond
	maxRepulls  = 5
)

var (
	ErrSilent       = errors.New("no heartbeat")
	errLostDelivery = errors.New("a delivery was lost")
	ErrMoved        = errors.New("trying to read on this node again")
)

// PullConsumer is an ephemeral consumer that acknowledges nothing. It belongs to one goroutine.
type PullConsumer struct {
	nc        *nats.Conn
	stream    string
	name      string
	Start     uint64 // First sequence that the server will deliver, if it exists.
	Pending   uint64 // Messages that the consumer had before it when it was made.
	Local     bool   // The consumer is on this node.
	noReplica bool   // It cannot be local: this node has no replica of the stream.
	opened    time.Time

	sub         *nats.Subscription
	inbox       string
	Messages    chan *nats.Msg
	maxBytes    int
	demand      int    // Messages asked for and neither delivered nor declined.
	delivered   uint64 // Consumer sequence of the last delivery.
	silentTicks int    // Ticks since something arrived.
	received    bool   // Something has arrived.
	repulls     int
	RepullTimer *time.Timer
}

// Opener opens pull consumers of a stream.
type Opener struct {
	JS     jetstream.JetStream
	Stream string
	// LocalServer returns the name of this node's own server, on which consumers are placed. If it is nil, or the server
	// is not clustered, consumers are placed anywhere.
	LocalServer func() string
}

// Open creates a consumer and asks for messages.
func (o *Opener) Open(ctx context.Context, cfg jetstream.ConsumerConfig) (*PullConsumer, error) {
	nc := o.JS.Conn()
	s := &PullConsumer{
		nc: nc, stream: o.Stream, opened: time.Now(),
		inbox: nc.NewInbox(), Messages: make(chan *nats.Msg, 4*PullBatch),
		// Twice the largest message: one that does not fit would never be delivered.
		maxBytes: int(max(4<<20, 2*nc.MaxPayload())),
	}
	sub, err := nc.ChanSubscribe(s.inbox, s.Messages)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	s.sub = sub
	if err := s.create(ctx, o, cfg); err != nil {
		_ = sub.Unsubscribe()
		return nil, err
	}
	s.RepullTimer = time.NewTimer(firstRepull)
	return s, s.pull(PullBatch)
}

// create creates the consumer, and recreates it until it is on this node if this node has a replica of the stream.
func (s *PullConsumer) create(ctx context.Context, o *Opener, cfg jetstream.ConsumerConfig) error {
	for try := 1; ; try++ {
		info, err := createConsumer(ctx, o.JS, s.stream, cfg)
		if err != nil {
			return fmt.Errorf("create a consumer of stream %s: %w", s.stream, err)
		}
		s.name, s.Start, s.Pending, s.Local = info.Name, info.Delivered.Stream+1, info.NumPending, o.isLocal(info)
		if !s.Local && try == 1 {
			s.noReplica = !o.MayBeLocal(ctx)
		}
		if s.Local || s.noReplica || try >= placementTries || time.Since(s.opened) >= placementLimit {
			return nil
		}
		DeleteConsumer(s.nc, s.stream, s.name)
	}
}

func (o *Opener) isLocal(info *jetstream.ConsumerInfo) bool {
	return info.Cluster == nil || o.LocalServer == nil || info.Cluster.Leader == o.LocalServer()
}

// MayBeLocal reports whether this node has a replica of the stream, which a consumer needs. If that is
// unknown, it returns true.
func (o *Opener) MayBeLocal(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, placementInfoTimeout)
	defer cancel()
	stream, err := o.JS.Stream(ctx, o.Stream)
	if err != nil || stream.CachedInfo().Cluster == nil {
		return true
	}
	own, cluster := o.LocalServer(), stream.CachedInfo().Cluster
	return cluster.Leader == own || slices.ContainsFunc(cluster.Replicas,
		func(p *jetstream.PeerInfo) bool { return p.Name == own })
}

// Close deletes the consumer.
func (s *PullConsumer) Close() {
	s.RepullTimer.Stop()
	_ = s.sub.Unsubscribe()
	DeleteConsumer(s.nc, s.stream, s.name)
}

func (s *PullConsumer) pull(n int) error {
	s.demand += n
	request := fmt.Appendf(nil, `{"batch":%d,"expires":%d,"idle_heartbeat":%d,"max_bytes":%d}`,
		n, pullExpiry.Nanoseconds(), pullHeartbeat.Nanoseconds(), s.maxBytes)
	return s.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+s.stream+"."+s.name, s.inbox, request)
}

// refill asks for more before the server runs out of demand.
func (s *PullConsumer) refill() error {
	if s.demand > PullBatch/2 {
		return nil
	}
	return s.pull(PullBatch - max(0, s.demand))
}

// Repull repeats the first pull if it seems to be lost.
func (s *PullConsumer) Repull() error {
	if s.received || s.repulls >= maxRepulls {
		return nil
	}
	s.repulls++
	s.RepullTimer.Reset(firstRepull << s.repulls)
	s.demand = 0
	return s.pull(PullBatch)
}

// Tick returns an error if the consumer has fallen silent, or should be replaced by one on this node.
func (s *PullConsumer) Tick() error {
	if len(s.Messages) == 0 {
		s.silentTicks++
	}
	switch {
	case s.silentTicks >= SilentTicks:
		return ErrSilent
	case !s.Local && time.Since(s.opened) >= s.placementTimeout():
		return ErrMoved
	}
	return nil
}

// placementTimeout returns how long a consumer on another node is kept.
func (s *PullConsumer) placementTimeout() time.Duration {
	if s.noReplica {
		return relocateAwayAfter
	}
	return relocateAfter
}

// Buffered returns a message that has arrived, nil if there is none. Before it returns nil it yields: the client's
// reader may be about to deliver more, and then the lanes need not be woken up for one message each.
func (s *PullConsumer) Buffered() *nats.Msg {
	for try := 0; ; try++ {
		select {
		case m := <-s.Messages:
			return m
		default:
			if try > 0 {
				return nil
			}
			runtime.Gosched()
		}
	}
}

// Receive processes what the server sent: a message, or the status of a pull.
func (s *PullConsumer) Receive(m *nats.Msg) (d Delivery, isMessage bool, err error) {
	s.touch()
	if m.Reply == "" {
		return d, false, s.status(m)
	}
	d, ok := parseDelivery(m.Reply)
	if !ok || d.consumerSeq != s.delivered+1 {
		return d, false, errLostDelivery
	}
	s.delivered = d.consumerSeq
	s.demand--
	return d, true, s.refill()
}

// touch notes that something arrived.
func (s *PullConsumer) touch() { s.received, s.silentTicks = true, 0 }

// status processes the status of a pull.
func (s *PullConsumer) status(m *nats.Msg) error {
	switch code := m.Header.Get("Status"); code {
	case "100":
		last, err := strconv.ParseUint(m.Header.Get("Nats-Last-Consumer"), 10, 64)
		if err == nil && last > s.delivered {
			return errLostDelivery
		}
		return nil
	case "408", "409":
		left, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
		if err != nil || m.Header.Get("Description") == "Server Shutdown" {
			return fmt.Errorf("the server ended the pull: %s %s", code, m.Header.Get("Description"))
		}
		s.demand = max(0, s.demand-left)
		return s.refill()
	default:
		return fmt.Errorf("the server refused the pull: %s %s", code, m.Header.Get("Description"))
	}
}

// Delivery is the position of a delivered message, from its reply subject.
type Delivery struct {
	StreamSeq, consumerSeq uint64
	Published              time.Time
}

// parseDelivery reads $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<sseq>.<cseq>.<time>.<pending>[.…].
func parseDelivery(reply string) (d Delivery, ok bool) {
	skip := 5
	if strings.Count(reply, ".") > 8 {
		skip = 7
	}
	for range skip {
		if _, reply, ok = strings.Cut(reply, "."); !ok {
			return d, false
		}
	}
	var stamp uint64
	for _, into := range []*uint64{&d.StreamSeq, &d.consumerSeq, &stamp} {
		var token string
		token, reply, _ = strings.Cut(reply, ".")
		n, err := strconv.ParseUint(token, 10, 64)
		if err != nil {
			return d, false
		}
		*into = n
	}
	d.Published = time.Unix(0, int64(stamp))
	return d, true
}
