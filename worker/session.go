package worker

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

// How a session asks for messages. A heartbeat of half a second costs nothing and finds a lost pull in two seconds,
// where the client library's default takes thirty.
const (
	pullBatch     = 1000
	pullExpiry    = 30 * time.Second
	pullHeartbeat = 500 * time.Millisecond
	beatEvery     = 250 * time.Millisecond // How often a session looks after itself.
	reopenAfter   = 250 * time.Millisecond // Before another session is opened after one could not be.
	silentBeats   = 8                      // Beats without a sound after which a session is lost.
	createFirst   = 100 * time.Millisecond // For the first request to create a consumer; it may be lost with a leader.
	createTries   = 4                      // So many requests, each for twice as long as the one before it.
	createPause   = 10 * time.Millisecond  // After the first one; twice as long after each.
	lookLimit     = time.Second            // For one look at the stream.
	inactivity    = 30 * time.Second       // After which the server removes a consumer that nobody pulls from.
)

// A server gives an R1 consumer to any node. It must be this one: then it dies only with the node, and never because
// another one did.
const (
	placeTries = 24
	placeLimit = 3 * time.Second
	placeAgain = 20 * time.Second // After which a session that is elsewhere is replaced.
	placeAway  = 5 * time.Minute  // The same if this node has no copy of the stream: it might have got one.
)

// About one pull in ten that follows a consumer's creation is lost. Until something has arrived it is repeated, at
// growing distances; an extra pull costs nothing.
const (
	kickFirst = 25 * time.Millisecond
	kickTimes = 5
)

var (
	errSilent   = errors.New("no heartbeat")
	errSequence = errors.New("a delivery was lost")
	errMoved    = errors.New("trying to read on this node again")
)

// session is one life of an ephemeral consumer that acknowledges nothing. It belongs to one goroutine.
type session struct {
	nc     *nats.Conn
	stream string
	name   string
	start  uint64 // First sequence that the server will deliver, if it exists.
	behind uint64 // Messages that the consumer had before it when it was made.
	local  bool   // The consumer is on this node.
	away   bool   // It cannot be: this node has no copy of the stream.
	opened time.Time

	sub       *nats.Subscription
	inbox     string
	in        chan *nats.Msg
	maxBytes  int
	asked     int    // Messages asked for and neither delivered nor declined.
	delivered uint64 // Consumer sequence of the last delivery.
	silent    int    // Beats since something arrived.
	heard     bool   // Something has arrived.
	kicks     int
	kick      *time.Timer
}

// opener opens pull consumers of a stream.
type opener struct {
	js     jetstream.JetStream
	stream string
	// localServer is the name of this node's own server, on which consumers are placed. nil or a server that is not
	// clustered: wherever they are.
	localServer func() string
}

// open creates a consumer and asks for messages.
func (o *opener) open(ctx context.Context, cfg jetstream.ConsumerConfig) (*session, error) {
	nc := o.js.Conn()
	s := &session{
		nc: nc, stream: o.stream, opened: time.Now(),
		inbox: nc.NewInbox(), in: make(chan *nats.Msg, 4*pullBatch),
		// Twice the largest message, or one that does not fit would never come.
		maxBytes: int(max(4<<20, 2*nc.MaxPayload())),
	}
	sub, err := nc.ChanSubscribe(s.inbox, s.in)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	s.sub = sub
	if err := s.create(ctx, o, cfg); err != nil {
		_ = sub.Unsubscribe()
		return nil, err
	}
	s.kick = time.NewTimer(kickFirst)
	return s, s.pull(pullBatch)
}

// create creates the consumer, again and again until it is on this node, if this node has a copy of the stream.
func (s *session) create(ctx context.Context, o *opener, cfg jetstream.ConsumerConfig) error {
	for try := 1; ; try++ {
		info, err := createConsumer(ctx, o.js, s.stream, cfg)
		if err != nil {
			return fmt.Errorf("create a consumer of stream %s: %w", s.stream, err)
		}
		s.name, s.start, s.behind, s.local = info.Name, info.Delivered.Stream+1, info.NumPending, o.isLocal(info)
		if !s.local && try == 1 {
			s.away = !o.mayBeLocal(ctx)
		}
		if s.local || s.away || try >= placeTries || time.Since(s.opened) >= placeLimit {
			return nil
		}
		remove(s.nc, s.stream, s.name)
	}
}

func (o *opener) isLocal(info *jetstream.ConsumerInfo) bool {
	return info.Cluster == nil || o.localServer == nil || info.Cluster.Leader == o.localServer()
}

// mayBeLocal reports whether this node has a copy of the stream, which a consumer needs. If nobody can say, it may.
func (o *opener) mayBeLocal(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	stream, err := o.js.Stream(ctx, o.stream)
	if err != nil || stream.CachedInfo().Cluster == nil {
		return true
	}
	own, cluster := o.localServer(), stream.CachedInfo().Cluster
	return cluster.Leader == own || slices.ContainsFunc(cluster.Replicas, func(p *jetstream.PeerInfo) bool { return p.Name == own })
}

func (s *session) close() {
	s.kick.Stop()
	_ = s.sub.Unsubscribe()
	remove(s.nc, s.stream, s.name)
}

func (s *session) pull(n int) error {
	s.asked += n
	request := fmt.Appendf(nil, `{"batch":%d,"expires":%d,"idle_heartbeat":%d,"max_bytes":%d}`,
		n, pullExpiry.Nanoseconds(), pullHeartbeat.Nanoseconds(), s.maxBytes)
	return s.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+s.stream+"."+s.name, s.inbox, request)
}

// refill asks for more before the server runs out of demand.
func (s *session) refill() error {
	if s.asked > pullBatch/2 {
		return nil
	}
	return s.pull(pullBatch - max(0, s.asked))
}

// kicked repeats the first pull if it seems to be lost.
func (s *session) kicked() error {
	if s.heard || s.kicks >= kickTimes {
		return nil
	}
	s.kicks++
	s.kick.Reset(kickFirst << s.kicks)
	s.asked = 0
	return s.pull(pullBatch)
}

// onBeat reports a session that has fallen silent, or should be replaced by one on this node.
func (s *session) onBeat() error {
	if len(s.in) == 0 {
		s.silent++
	}
	switch {
	case s.silent >= silentBeats:
		return errSilent
	case !s.local && time.Since(s.opened) >= s.patience():
		return errMoved
	}
	return nil
}

// patience is how long a session that is elsewhere is kept.
func (s *session) patience() time.Duration {
	if s.away {
		return placeAway
	}
	return placeAgain
}

// waiting returns a message that has arrived, nil if there is none. Before it says so it lets others run: the client's
// reader may be about to pass on what it has, and then the lanes need not be woken up for one message each.
func (s *session) waiting() *nats.Msg {
	for try := 0; ; try++ {
		select {
		case m := <-s.in:
			return m
		default:
			if try > 0 {
				return nil
			}
			runtime.Gosched()
		}
	}
}

// take takes what the server sent: a message, or a word about the pull.
func (s *session) take(m *nats.Msg) (d delivery, isMessage bool, err error) {
	s.sound()
	if m.Reply == "" {
		return d, false, s.status(m)
	}
	d, ok := parseDelivery(m.Reply)
	if !ok || d.consumerSeq != s.delivered+1 {
		return d, false, errSequence
	}
	s.delivered = d.consumerSeq
	s.asked--
	return d, true, s.refill()
}

// sound notes that something arrived.
func (s *session) sound() { s.heard, s.silent = true, 0 }

// status takes what the server says instead of a message.
func (s *session) status(m *nats.Msg) error {
	switch code := m.Header.Get("Status"); code {
	case "100":
		last, err := strconv.ParseUint(m.Header.Get("Nats-Last-Consumer"), 10, 64)
		if err == nil && last > s.delivered {
			return errSequence
		}
		return nil
	case "408", "409":
		left, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
		if err != nil || m.Header.Get("Description") == "Server Shutdown" {
			return fmt.Errorf("the server ended the pull: %s %s", code, m.Header.Get("Description"))
		}
		s.asked = max(0, s.asked-left)
		return s.refill()
	default:
		return fmt.Errorf("the server refused the pull: %s %s", code, m.Header.Get("Description"))
	}
}

// delivery is where a message stands, as its reply subject says.
type delivery struct {
	streamSeq, consumerSeq uint64
	published              time.Time
}

// parseDelivery reads $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<sseq>.<cseq>.<time>.<pending>[.…].
func parseDelivery(reply string) (d delivery, ok bool) {
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
	for _, into := range []*uint64{&d.streamSeq, &d.consumerSeq, &stamp} {
		var token string
		token, reply, _ = strings.Cut(reply, ".")
		n, err := strconv.ParseUint(token, 10, 64)
		if err != nil {
			return d, false
		}
		*into = n
	}
	d.published = time.Unix(0, int64(stamp))
	return d, true
}
