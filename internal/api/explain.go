package api

import (
	"context"
	"net/http"
	"net/url"

	"leasehold/internal/api/guard"
)

// Explainer says where a key or a message is, and what is blocking it. Its errors are marked as Membership's are.
type Explainer interface {
	Explain(ctx context.Context, topic string, of ExplainTarget) (*Explanation, error)
}

// ExplainTarget is what is to be explained.
type ExplainTarget struct {
	Of    string // An id "topic/partition/sequence", a sequence, or the name of a key.
	IsKey bool   // It is the name of a key, whatever it looks like.
}

// Explanation is the answer of GET /v1/explain.
type Explanation struct {
	V         int              `json:"v"`
	Topic     string           `json:"topic"`
	Partition *int             `json:"partition"` // null if not known: of a sequence that is not stored.
	Key       string           `json:"key"`       // As it stands in the subject; "" if not known.
	Stored    bool             `json:"stored"`    // The topic holds the message, or a message of the key.
	Seq       uint64           `json:"seq,omitempty"`
	Message   *Message         `json:"message,omitempty"` // If one was asked for and is stored.
	NotStored string           `json:"not_stored,omitempty"`
	Groups    []ExplainedGroup `json:"groups"`
}

// ExplainedGroup is a partition as one group sees it.
type ExplainedGroup struct {
	Group string `json:"group"`
	Partition
	Place  string  `json:"place,omitempty"`  // Where the message is for the group: one of the places.
	Before *uint64 `json:"before,omitempty"` // Messages that the group handles before it, if it waits and they are known.
	Note   string  `json:"note,omitempty"`   // Place, in words.
}

// Places of a message for a group.
const (
	PlaceBeforeStart = "before_start" // The group began behind it.
	PlaceDone        = "done"
	PlaceDeadLetter  = "dead_letter"
	PlaceHandling    = "handling"
	PlaceHeldUp      = "held_up" // It is the group's next one, and does not get through.
	PlaceWaiting     = "waiting"
	PlaceOtherGroup  = "other_group" // It was requeued for another group alone.
)

// explainRoutes is the route that explains. Its answer may hold a message, so it is guarded as messages are.
func (h *handler) explainRoutes(opt Options) map[string]http.Handler {
	if opt.Explainer == nil {
		return nil
	}
	return map[string]http.Handler{
		"GET /v1/explain": guard.Private(opt.Token)(answer(h, func(r *http.Request) (any, error) {
			q := r.URL.Query()
			p := params{values: q}
			p.oneOf("of", "key")
			if !q.Has("topic") || !q.Has("of") && !q.Has("key") {
				p.fault("name a topic, and a message or key with of=, or a key with key=")
			}
			if p.err != nil {
				return nil, p.err
			}
			of := ExplainTarget{Of: q.Get("of")}
			if q.Has("key") {
				of = ExplainTarget{Of: q.Get("key"), IsKey: true}
			}
			return opt.Explainer.Explain(r.Context(), q.Get("topic"), of)
		})),
	}
}

// Explain asks where a key or a message is, and what is blocking it.
func (c *Client) Explain(ctx context.Context, topic string, of ExplainTarget) (*Explanation, error) {
	q := url.Values{"topic": {topic}}
	if of.IsKey {
		q.Set("key", of.Of)
	} else {
		q.Set("of", of.Of)
	}
	return ask[Explanation](ctx, c, http.MethodGet, "/v1/explain?"+q.Encode())
}
