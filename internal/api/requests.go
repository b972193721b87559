package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/sync/semaphore"

	"leasehold/internal/jsondata"
)

// Requests takes what people ask of groups. Its errors are marked as Membership's are.
type Requests interface {
	Ask(ctx context.Context, group string, a Ask) (*Asked, error)
	// Asked says how far a request is: at once if wait is 0, else when it is applied everywhere or wait is over.
	Asked(ctx context.Context, group string, id uint64, wait time.Duration) (*Asked, error)
	DeadLetters(ctx context.Context, group string, f LetterFilter) (*LetterList, error)
	Requeue(ctx context.Context, group string, r LetterOrder) (*LettersDone, error)
	Drop(ctx context.Context, group string, r LetterOrder) (*LettersDone, error)
}

// Ask is the body of POST /v1/groups/{name}/requests.
type Ask struct {
	Kind       string   `json:"kind"`                 // "pause", "resume", "seek", "release" or "restart".
	Partitions []int    `json:"partitions,omitempty"` // Empty: all.
	Reason     string   `json:"reason,omitempty"`     // pause: shown to people until somebody resumes.
	To         string   `json:"to,omitempty"`         // seek: "earliest", "latest", "seq:N", "time:RFC3339" or "-2h".
	Keys       []string `json:"keys,omitempty"`       // release: names of parked keys; empty: all.
	DryRun     bool     `json:"dry_run,omitempty"`    // Only say what would be done.
}

// Asked is a request and how far it is. A request is applied to each partition once, by its owner.
type Asked struct {
	V          int    `json:"v"`
	ID         uint64 `json:"id"` // 0 for a dry run.
	Group      string `json:"group"`
	Kind       string `json:"kind"`
	DryRun     bool   `json:"dry_run"`
	Partitions int    `json:"partitions"` // For so many.
	Applied    int    `json:"applied"`    // Of so many it is known to be applied.
	Waiting    []int  `json:"waiting"`    // The others.

	// Of a resume: for how many partitions it changes something. The others are not paused, blocked or waiting for their
	// handler.
	Changed *int `json:"changed,omitempty"`
	// Partitions that have not yet handled all of what was released, by this request or another.
	Releasing []int `json:"releasing,omitempty"`

	// Of a seek: every message after Seq is handled (again). Again and Skipped are counted when it is asked for, -1 else.
	Seq     uint64 `json:"seq,omitempty"`
	Again   int64  `json:"again"`
	Skipped int64  `json:"skipped"`
	// Of a seek that skips messages which the group has not handled: how many, and where.
	Skips string `json:"skips,omitempty"`
}

// LetterFilter chooses dead letters. Zero fields choose all.
type LetterFilter struct {
	Partition *int
	Kind      string // "dead" or "parked".
	Reason    string
	Key       string // A name as partitioner.KeysNamed reads it.
	Since     time.Time
	Seq       uint64 // Of the message with this sequence only; with Partition and Key. The answer is up to date.
	After     uint64 // Letters with a higher number only.
	Limit     int    // At most so many; 0: the server's choice.
	Data      bool   // With payload and headers.
	Stored    uint64 // This one only.
	Local     bool   // From this node's own replica, which needs no quorum and may miss the newest.
}

// LetterList is the answer of GET /v1/groups/{name}/dlq.
type LetterList struct {
	V       int      `json:"v"`
	Group   string   `json:"group"`
	Letters []Letter `json:"letters"`
	// Node whose own replica was read, if it was asked for: the newest may be missing.
	Replica string `json:"replica,omitempty"`
	Next    uint64 `json:"next,omitempty"` // Ask for what comes after this number; absent at the end.
}

// Letter is one dead letter.
type Letter struct {
	Number       uint64 `json:"number"` // Its name among the group's dead letters.
	ID           string `json:"id"`     // "topic/partition/seq" of the message.
	Kind         string `json:"kind"`   // "dead" or "parked".
	Reason       string `json:"reason"` // "rejected", "max_attempts", or "parked" behind another of its key.
	Error        string `json:"error"`
	Topic        string `json:"topic"`
	Partition    int    `json:"partition"`
	Seq          uint64 `json:"seq"`
	Key          string `json:"key"`
	Subject      string `json:"subject"`
	Attempts     int    `json:"attempts"`
	FirstFailure string `json:"first_failure,omitempty"`
	LastFailure  string `json:"last_failure,omitempty"`
	Node         string `json:"node"`
	Epoch        uint64 `json:"epoch"`
	Published    string `json:"published"`
	Requeues     int    `json:"requeues"`
	Bytes        int    `json:"bytes"`              // Of the payload.
	LeftOut      string `json:"left_out,omitempty"` // What of the message could not be stored.

	Headers map[string][]string `json:"headers,omitempty"`
	jsondata.Payload
}

// LetterOrder is the body of POST /v1/groups/{name}/dlq/requeue and /drop.
type LetterOrder struct {
	Numbers     []uint64 `json:"numbers"`
	MaxRequeues int      `json:"max_requeues,omitempty"` // requeue: leave those that were requeued so often; 0: no limit.
	AllGroups   bool     `json:"all_groups,omitempty"`   // requeue: for every group of the topic, not for this one alone.
}

// LettersDone is the answer to it.
type LettersDone struct {
	V      int             `json:"v"`
	Group  string          `json:"group"`
	Done   []uint64        `json:"done"`
	Failed []LetterFailure `json:"failed"`

	Requeued []Requeued `json:"requeued,omitempty"` // By a requeue.
}

// Requeued is where the message of a dead letter was stored again.
type Requeued struct {
	Number    uint64 `json:"number"` // The letter's.
	Key       string `json:"key"`
	Partition int    `json:"partition"`
	Seq       uint64 `json:"seq"`
}

// LetterFailure says why one dead letter stayed.
type LetterFailure struct {
	Number uint64 `json:"number"`
	Error  string `json:"error"`
}

// MaxLetters is how many dead letters one call is about, at most.
const MaxLetters = 1000

// requestRoutes are the routes of requests and dead letters. Dead letters hold users' data, so even to look at them is
// for the socket, or for who shows a token.
func (h *handler) requestRoutes(r Requests, guarded func(http.HandlerFunc) http.Handler,
	closing <-chan struct{}) map[string]http.Handler {
	if r == nil {
		return nil
	}
	order := func(limited bool, do func(context.Context, string, LetterOrder) (*LettersDone, error)) http.Handler {
		return guarded(answer(h, func(req *http.Request) (any, error) {
			var o LetterOrder
			if err := readBody(req, &o); err != nil {
				return nil, err
			}
			if err := o.check(limited); err != nil {
				return nil, err
			}
			return do(req.Context(), req.PathValue("name"), o)
		}))
	}
	return map[string]http.Handler{
		"POST /v1/groups/{name}/requests": guarded(answer(h, func(req *http.Request) (any, error) {
			var a Ask
			if err := readBody(req, &a); err != nil {
				return nil, err
			}
			if err := a.check(); err != nil {
				return nil, err
			}
			return r.Ask(req.Context(), req.PathValue("name"), a)
		})),
		"GET /v1/groups/{name}/requests/{id}": newRequestStatus(h, r, closing),
		"GET /v1/groups/{name}/dlq": guarded(few(maxPages, answer(h, func(req *http.Request) (any, error) {
			f, err := letterFilter(req.URL.Query())
			if err != nil {
				return nil, err
			}
			return r.DeadLetters(req.Context(), req.PathValue("name"), f)
		}))),
		"POST /v1/groups/{name}/dlq/requeue": order(true, r.Requeue),
		"POST /v1/groups/{name}/dlq/drop":    order(false, r.Drop),
	}
}

// check refuses fields that say nothing about a request of this kind: their sender means something else by it.
func (a Ask) check() error {
	for _, field := range []struct {
		name, kind string
		given      bool
	}{{"reason", "pause", a.Reason != ""}, {"to", "seek", a.To != ""}, {"keys", "release", len(a.Keys) > 0}} {
		if field.given && a.Kind != field.kind {
			return badRequest("%s belongs to kind %q, not to %q", field.name, field.kind, a.Kind)
		}
	}
	return nil
}

// check looks at an order; only some have a limit of requeues.
func (o LetterOrder) check(limited bool) error {
	switch {
	case len(o.Numbers) == 0 || len(o.Numbers) > MaxLetters:
		return badRequest("numbers: name 1 to %d dead letters", MaxLetters)
	case o.MaxRequeues < 0:
		return badRequest("max_requeues: must not be negative; leave it out for no limit")
	case o.MaxRequeues > 0 && !limited:
		return badRequest("max_requeues belongs to requeue, not to drop")
	}
	return nil
}

// maxPages is how many pages of dead letters are made and sent at a time: each may be large.
const maxPages = 4

// few lets so many requests through at a time; the others wait.
func few(most int64, next http.HandlerFunc) http.HandlerFunc {
	places := semaphore.NewWeighted(most)
	return func(w http.ResponseWriter, r *http.Request) {
		if places.Acquire(r.Context(), 1) != nil {
			return // The caller has gone.
		}
		defer places.Release(1)
		next(w, r)
	}
}

// ErrBadRequest: what was asked makes no sense.
var ErrBadRequest = errors.New("bad request")

func badRequest(format string, args ...any) error {
	return Mark(ErrBadRequest, fmt.Sprintf(format, args...))
}

// letterFilter reads a filter from a query that was checked.
func letterFilter(q url.Values) (f LetterFilter, err error) {
	p := params{values: q}
	if q.Has("partition") {
		n := int(p.number("partition", 0, math.MaxInt32))
		f.Partition = &n
	}
	f.Kind = p.choice("kind", "dead", "parked")
	f.Reason = p.choice("reason", "rejected", "max_attempts", "parked")
	f.Key = q.Get("key")
	if q.Has("since") {
		if f.Since, err = time.Parse(time.RFC3339Nano, q.Get("since")); err != nil {
			p.fault("since=%s is not a time like 2026-01-02T15:04:05Z", q.Get("since"))
		}
	}
	f.After = p.given("after", 0, math.MaxInt64)
	f.Stored = p.given("number", 1, math.MaxInt64)
	f.Limit = int(p.given("limit", 1, MaxLetters))
	f.Seq = p.given("seq", 1, math.MaxInt64)
	f.Data = p.flag("data")
	f.Local = p.flag("local")
	if f.Seq > 0 && (f.Partition == nil || f.Key == "") {
		p.fault("seq=%d: name partition and key too", f.Seq)
	}
	return f, p.err
}

func (f LetterFilter) query() url.Values {
	q := url.Values{}
	set := func(name, value string, on bool) {
		if on {
			q.Set(name, value)
		}
	}
	if f.Partition != nil {
		q.Set("partition", strconv.Itoa(*f.Partition))
	}
	set("kind", f.Kind, f.Kind != "")
	set("reason", f.Reason, f.Reason != "")
	set("key", f.Key, f.Key != "")
	set("since", f.Since.Format(time.RFC3339Nano), !f.Since.IsZero())
	set("seq", strconv.FormatUint(f.Seq, 10), f.Seq > 0)
	set("after", strconv.FormatUint(f.After, 10), f.After > 0)
	set("number", strconv.FormatUint(f.Stored, 10), f.Stored > 0)
	set("limit", strconv.Itoa(f.Limit), f.Limit > 0)
	set("data", "true", f.Data)
	set("local", "true", f.Local)
	return q
}

func groupPath(group, rest string) string { return "/v1/groups/" + url.PathEscape(group) + rest }

// Ask asks something of a group's partitions.
func (c *Client) Ask(ctx context.Context, group string, a Ask) (*Asked, error) {
	return askWith[Asked](ctx, c, groupPath(group, "/requests"), a)
}

// DeadLetters lists a page of a group's dead letters.
func (c *Client) DeadLetters(ctx context.Context, group string, f LetterFilter) (*LetterList, error) {
	return ask[LetterList](ctx, c, http.MethodGet, groupPath(group, "/dlq?"+f.query().Encode()))
}

// Requeue sends dead letters to their topic again.
func (c *Client) Requeue(ctx context.Context, group string, o LetterOrder) (*LettersDone, error) {
	return askWith[LettersDone](ctx, c, groupPath(group, "/dlq/requeue"), o)
}

// Drop deletes dead letters.
func (c *Client) Drop(ctx context.Context, group string, o LetterOrder) (*LettersDone, error) {
	return askWith[LettersDone](ctx, c, groupPath(group, "/dlq/drop"), o)
}

// askWith posts a body.
func askWith[T any](ctx context.Context, c *Client, path string, body any) (*T, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	var out T
	if err := c.send(ctx, http.MethodPost, path, bytes.NewReader(text), &out); err != nil {
		return nil, err
	}
	return &out, nil
}
