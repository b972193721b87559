package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/sync/semaphore"

	"leasehold/internal/api/reply"
	"leasehold/internal/duration"
	"leasehold/internal/jsondata"
)

// Message is a stored message: what a handler is told, without what depends on who handles it.
type Message struct {
	ID             string              `json:"id"` // "topic/partition/seq".
	Topic          string              `json:"topic"`
	Partition      int                 `json:"partition"`
	Seq            uint64              `json:"seq"`
	Key            string              `json:"key"`
	Subject        string              `json:"subject"`
	IdempotencyKey string              `json:"idempotency_key"`
	Time           string              `json:"time"` // When it was stored, RFC 3339.
	Traceparent    string              `json:"traceparent,omitempty"`
	Headers        map[string][]string `json:"headers"`
	jsondata.Payload
}

// MessageReader shows one message after the other.
type MessageReader interface {
	// Next returns io.EOF after the last one. It returns soon after ctx has ended.
	Next(ctx context.Context) (*Message, error)
	Close()
}

// TapOptions say which messages to show. The zero value shows all.
type TapOptions struct {
	Partition *int   // Only of this partition.
	Key       string // Only of the key of this name, as partitioner.KeysNamed reads it; empty: of every key.

	// Where to begin: at a sequence, this long ago, or at the last so many; the first of them that is set counts.
	FromSeq uint64
	Since   time.Duration
	Last    int

	Follow bool // Wait for new messages, without end.
	Local  bool // From this node's own replica, which needs no quorum and may miss the newest messages. Not with Follow.
}

// DefaultLast is how many of the last messages are shown by default.
const DefaultLast = 10

const (
	maxLast = 100_000
	maxTaps = 16 // At a time; each may hold a few MiB.
)

// query spells the options as parameters.
func (o TapOptions) query() url.Values {
	q := url.Values{}
	if o.Partition != nil {
		q.Set("partition", strconv.Itoa(*o.Partition))
	}
	if o.Key != "" {
		q.Set("key", o.Key)
	}
	switch {
	case o.FromSeq > 0:
		q.Set("from_seq", strconv.FormatUint(o.FromSeq, 10))
	case o.Since > 0:
		q.Set("since", o.Since.String())
	default:
		q.Set("last", strconv.Itoa(o.Last))
	}
	if o.Follow {
		q.Set("follow", "true")
	}
	if o.Local {
		q.Set("local", "true")
	}
	return q
}

// parseTap reads the parameters of a query that was checked.
func parseTap(q url.Values, topic TopicInfo) (o TapOptions, err error) {
	p := params{values: q}
	p.oneOf("partition", "key")
	p.oneOf("from_seq", "since", "last")
	if q.Has("partition") {
		n := int(p.number("partition", 0, uint64(topic.Partitions)-1))
		o.Partition = &n
	}
	o.Key = q.Get("key")
	o.Last = DefaultLast
	if q.Has("last") {
		o.Last = int(p.number("last", 0, maxLast))
	}
	if q.Has("from_seq") {
		o.FromSeq = p.number("from_seq", 1, 1<<63)
	}
	if q.Has("since") {
		if o.Since, err = duration.Parse(q.Get("since")); err != nil || o.Since <= 0 {
			p.fault("since=%s is not a valid duration; write one like 10m, 24h or 7d", q.Get("since"))
		}
	}
	o.Follow, o.Local = p.flag("follow"), p.flag("local")
	if o.Follow && o.Local {
		p.fault("follow and local exclude each other: this node's own replica ends where it ends")
	}
	return o, p.err
}

// tapping answers requests to look at messages.
type tapping struct {
	*handler
	messages Messages
	open     *semaphore.Weighted
	closing  <-chan struct{} // The server is being stopped.
}

func (t *tapping) answer(w http.ResponseWriter, r *http.Request) {
	info, ok := t.source.Topic(r.PathValue("topic"))
	if !ok {
		t.noTopic(w, r)
		return
	}
	o, err := parseTap(r.URL.Query(), info)
	if err != nil {
		t.failWith(w, err)
		return
	}
	if !t.open.TryAcquire(1) {
		t.failWith(w, Mark(ErrBusy, fmt.Sprintf("%d taps are open on this node, and there can be no more", maxTaps)))
		return
	}
	defer t.open.Release(1)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() { // Ends with this request.
		select {
		case <-t.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	reader, err := t.messages.Tap(ctx, info.Name, o)
	if err != nil {
		t.failWith(w, err)
		return
	}
	defer reader.Close()
	t.stream(ctx, w, reader, o.Follow)
}

// stream writes a line a message until there are no more, or one side goes away. A server's usual limits are for
// answers that have an end; here each line has its own.
func (t *tapping) stream(ctx context.Context, w http.ResponseWriter, reader MessageReader, follow bool) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // When it is over, the request would be too.
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	lines := json.NewEncoder(w)
	for {
		if follow {
			_ = control.Flush() // If nobody is there, the next line will tell.
		}
		m, err := reader.Next(ctx)
		_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
		switch {
		case errors.Is(err, io.EOF), ctx.Err() != nil:
			return
		case err != nil:
			// The answer's code is out; this is how a line says it.
			_ = lines.Encode(reply.Failure{Error: plain(err), NoQuorum: errors.Is(err, ErrNoQuorum)})
			return
		case lines.Encode(m) != nil:
			return
		}
	}
}

// message answers with one stored message.
func (t *tapping) message(r *http.Request) (any, error) {
	seq, err := strconv.ParseUint(r.PathValue("seq"), 10, 64)
	if err != nil || seq == 0 {
		return nil, badRequest("%q is not a sequence", r.PathValue("seq"))
	}
	return t.messages.Message(r.Context(), r.PathValue("topic"), seq)
}

// Count is the answer of GET /v1/topics/{topic}/count.
type Count struct {
	V     int    `json:"v"`
	Count uint64 `json:"count"`
}

// CountOptions say which messages to count.
type CountOptions struct {
	Partition     int
	After, Before uint64 // Sequences between which they lie.
}

func (t *tapping) count(r *http.Request) (any, error) {
	p := params{values: r.URL.Query()}
	info, ok := t.source.Topic(r.PathValue("topic"))
	if !ok {
		return nil, Mark(ErrNotFound, noTopic(r))
	}
	o := CountOptions{
		Partition: int(p.number("partition", 0, uint64(info.Partitions)-1)),
		After:     p.number("after", 0, 1<<63), Before: p.number("before", 0, 1<<63),
	}
	if p.err != nil {
		return nil, p.err
	}
	n, err := t.messages.Count(r.Context(), info.Name, o)
	return Count{V: Version, Count: n}, err
}

// KeyInfo is the answer of GET /v1/topics/{topic}/key?name=NAME.
type KeyInfo struct {
	V         int    `json:"v"`
	Topic     string `json:"topic"`
	Key       string `json:"key"`  // As it stands in the subject.
	Name      string `json:"name"` // As it is shown.
	Partition int    `json:"partition"`
	Stored    bool   `json:"stored"` // The topic has a message of it.
}

func (t *tapping) key(r *http.Request) (any, error) {
	return t.messages.Key(r.Context(), r.PathValue("topic"), r.URL.Query().Get("name"))
}

// MessageStream is a tap as the client sees it.
type MessageStream struct {
	client *Client
	body   io.ReadCloser
	lines  *json.Decoder
	follow bool
}

// Tap looks at messages of a topic.
func (c *Client) Tap(ctx context.Context, topic string, o TapOptions) (*MessageStream, error) {
	path := topicPath(topic) + "/tap?" + o.query().Encode()
	endless := *c.http
	endless.Timeout = 0
	resp, err := c.request(ctx, &endless, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, c.read(resp, path, nil)
	}
	return &MessageStream{client: c, body: resp.Body, lines: json.NewDecoder(&boundedLines{r: resp.Body}),
		follow: o.Follow}, nil
}

// boundedLines ends a stream at a line that no agent sends.
type boundedLines struct {
	r    io.Reader
	line int // Bytes since the last end of a line.
}

func (b *boundedLines) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if end := bytes.LastIndexByte(p[:n], '\n'); end >= 0 {
		b.line = n - end - 1
	} else {
		b.line += n
	}
	if b.line > maxAnswer {
		return 0, fmt.Errorf("a line of more than %d MiB", maxAnswer>>20)
	}
	return n, err
}

// Next returns the next message, or io.EOF after the last one. A stream that follows has no last one: its end is an
// error.
func (s *MessageStream) Next() (*Message, error) {
	var line struct {
		Message
		reply.Failure
	}
	err := s.lines.Decode(&line)
	switch {
	case errors.Is(err, io.EOF) && !s.follow:
		return nil, io.EOF
	case err != nil:
		return nil, fmt.Errorf("%w any more at %s: it has ended the tap", ErrUnreachable, s.client.target)
	case line.NoQuorum:
		return nil, Mark(ErrNoQuorum, line.Error)
	case line.Error != "":
		return nil, errors.New(line.Error)
	}
	return &line.Message, nil
}

// Close ends the tap.
func (s *MessageStream) Close() { s.body.Close() }

// Message asks for one stored message.
func (c *Client) Message(ctx context.Context, topic string, seq uint64) (*Message, error) {
	return ask[Message](ctx, c, http.MethodGet, topicPath(topic)+"/messages/"+strconv.FormatUint(seq, 10))
}

// Key asks which key of a topic a name means.
func (c *Client) Key(ctx context.Context, topic, name string) (*KeyInfo, error) {
	return ask[KeyInfo](ctx, c, http.MethodGet, topicPath(topic)+"/key?"+url.Values{"name": {name}}.Encode())
}

// Count asks how many messages of a partition lie between two sequences.
func (c *Client) Count(ctx context.Context, topic string, o CountOptions) (uint64, error) {
	path := fmt.Sprintf("%s/count?partition=%d&after=%d&before=%d", topicPath(topic), o.Partition, o.After, o.Before)
	n, err := ask[Count](ctx, c, http.MethodGet, path)
	if err != nil {
		return 0, err
	}
	return n.Count, nil
}

func topicPath(topic string) string { return "/v1/topics/" + url.PathEscape(topic) }
