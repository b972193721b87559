package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"leasehold/internal/admission"
	"leasehold/internal/brokererr"
)

// Membership answers about who and what belongs to the cluster, and changes it. Its errors wrap ErrNotFound, ErrRefused
// or ErrNotYet where one of them fits.
type Membership interface {
	Members(ctx context.Context) (*NodeList, error)
	RemoveNode(ctx context.Context, name string, dryRun bool) (*NodeRemoval, error)
	GroupList(ctx context.Context) (*GroupList, error)
	RemoveGroup(ctx context.Context, name string, dryRun bool) (*GroupRemoval, error)
	TopicList(ctx context.Context) (*TopicList, error)
	RemoveTopic(ctx context.Context, name string, dryRun bool) (*TopicRemoval, error)
}

// ErrRefused means that a change would not be safe, or contradicts what is running.
var ErrRefused = errors.New("refused")

// NodeList is the answer of GET /v1/nodes.
type NodeList struct {
	V       int    `json:"v"`
	Cluster string `json:"cluster"`
	Node    string `json:"node"` // Node that answered.
	// Why there is no quorum; what is listed is then what this node knew last.
	NoQuorum string   `json:"no_quorum,omitempty"`
	Voters   Voters   `json:"voters"`
	Nodes    []Member `json:"nodes"`
	Warnings []string `json:"warnings"`
}

// Voters are the cluster's voting peers. All 0 in single mode, or when no leader could be asked.
type Voters struct {
	Count  int `json:"count"`
	Quorum int `json:"quorum"` // How many of them every decision needs.
	Alive  int `json:"alive"`
}

// Member is one identity of a node: a node that came back with an empty disk is another one than before.
type Member struct {
	Name string `json:"name"`
	// As Node.State; "former" for an identity whose node has another one now, "removed".
	State      string   `json:"state"`
	Ready      bool     `json:"ready"`
	Boot       uint64   `json:"boot"`
	ServerID   string   `json:"server_id"` // Of the broker's present life.
	Server     string   `json:"server"`    // Its name among the peers: the node's and a random id; "" if unknown.
	Address    string   `json:"address"`
	Version    string   `json:"version"`
	Partitions int      `json:"partitions"`
	Groups     []string `json:"groups"`  // Groups that it serves.
	Peer       bool     `json:"peer"`    // It is a voter.
	Current    bool     `json:"current"` // It is alive and has everything.
	Leader     bool     `json:"leader"`
	LastSeen   string   `json:"last_seen,omitempty"` // As Node.LastSeen.
	Note       string   `json:"note"`                // What an operator should do about it; empty if nothing.
}

// NodeRemoval is the answer of POST /v1/nodes/{name}/remove.
type NodeRemoval struct {
	V            int      `json:"v"`
	Name         string   `json:"name"`
	DryRun       bool     `json:"dry_run"`
	Removed      []string `json:"removed"`       // Server names of the voters that were (or would be) taken out.
	SessionEnded bool     `json:"session_ended"` // Its session was (or would be) ended.
	Before       Voters   `json:"before"`
	After        Voters   `json:"after"`
	Warnings     []string `json:"warnings"`
}

// GroupList is the answer of GET /v1/groups.
type GroupList struct {
	V      int         `json:"v"`
	Groups []GroupInfo `json:"groups"`
}

// GroupInfo is one group that was ever defined.
type GroupInfo struct {
	Name  string `json:"name"`
	Topic string `json:"topic"`
	// "served", "idle" if no live node serves it, "unfinished" if a node died while it made the group, or "removed".
	State      string   `json:"state"`
	Start      string   `json:"start"`
	StartAfter uint64   `json:"start_after"` // Messages up to here were never the group's.
	Nodes      []string `json:"nodes"`       // Live nodes that serve it.
	Partitions int      `json:"partitions"`
	Unowned    int      `json:"unowned"`
	Done       uint64   `json:"done"` // Every partition has finished everything up to here.
	Lag        *int64   `json:"lag"`  // null if unknown.

	DeadLetters int64 `json:"dead_letters"`  // -1 if unknown.
	DLQMaxBytes int64 `json:"dlq_max_bytes"` // What they may take.
}

// GroupRemoval is the answer of POST /v1/groups/{name}/remove.
type GroupRemoval struct {
	V        int    `json:"v"`
	Name     string `json:"name"`
	DryRun   bool   `json:"dry_run"`
	Topic    string `json:"topic"`
	Done     uint64 `json:"done"`     // As GroupInfo.
	Unread   uint64 `json:"unread"`   // Sequences of the topic after Done: what the group may not have finished.
	Released bool   `json:"released"` // It holds back no messages any more.

	DeadLetters uint64 `json:"dead_letters"` // That were (or would be) deleted with it.
	Freed       int64  `json:"freed"`        // What they had of max_store.
}

// TopicList is the answer of GET /v1/topics.
type TopicList struct {
	V        int           `json:"v"`
	MaxStore int64         `json:"max_store"` // Of the node that answered.
	Reserved int64         `json:"reserved"`  // What all streams may take of it together; 0 if unknown.
	Topics   []TopicDetail `json:"topics"`
}

// TopicDetail is one topic that was ever defined.
type TopicDetail struct {
	Topic
	Subject  string   `json:"subject"`
	Key      []int    `json:"key"`
	FirstSeq uint64   `json:"first_seq"`
	MaxBytes int64    `json:"max_bytes"`
	Floor    uint64   `json:"floor"`    // Everything up to here may have been purged.
	Nodes    []string `json:"nodes"`    // Live nodes whose config has it.
	Groups   []string `json:"groups"`   // Groups that hold its messages back.
	Replicas []string `json:"replicas"` // Nodes that hold a copy.
	Error    string   `json:"error"`    // Why its stream could not be looked at.
	State    string   `json:"state"`    // "used", "unused" if no live node's config has it, or "removed".
	RetainMS int64    `json:"retain_ms"`

	WantedBytes int64 `json:"wanted_bytes"` // What a config stated and what does not fit into max_store; 0 if it has that.
}

// TopicRemoval is the answer of POST /v1/topics/{name}/remove.
type TopicRemoval struct {
	V        int    `json:"v"`
	Name     string `json:"name"`
	DryRun   bool   `json:"dry_run"`
	Messages uint64 `json:"messages"` // That were (or would be) deleted with it.
	Bytes    uint64 `json:"bytes"`    // Taken by them.
	Freed    int64  `json:"freed"`    // What it had of max_store.
	Removed  bool   `json:"removed"`
}

// memberRoutes are the routes of membership: those that change something are for the socket, or for who shows a token.
func (h *handler) memberRoutes(m Membership, change func(http.HandlerFunc) http.Handler) map[string]http.Handler {
	if m == nil {
		return nil
	}
	return map[string]http.Handler{
		"GET /v1/nodes":  answer(h, func(r *http.Request) (any, error) { return m.Members(r.Context()) }),
		"GET /v1/groups": answer(h, func(r *http.Request) (any, error) { return m.GroupList(r.Context()) }),
		"GET /v1/topics": answer(h, func(r *http.Request) (any, error) { return m.TopicList(r.Context()) }),
		"POST /v1/nodes/{name}/remove": change(remove(h, func(ctx context.Context, name string, dryRun bool) (any, error) {
			return m.RemoveNode(ctx, name, dryRun)
		})),
		"POST /v1/groups/{name}/remove": change(remove(h, func(ctx context.Context, name string, dryRun bool) (any, error) {
			return m.RemoveGroup(ctx, name, dryRun)
		})),
		"POST /v1/topics/{name}/remove": change(remove(h, func(ctx context.Context, name string, dryRun bool) (any, error) {
			return m.RemoveTopic(ctx, name, dryRun)
		})),
	}
}

// remove answers a request to remove what its path names.
func remove(h *handler, do func(ctx context.Context, name string, dryRun bool) (any, error)) http.HandlerFunc {
	return answer(h, func(r *http.Request) (any, error) {
		p := params{values: r.URL.Query()}
		dryRun := p.flag("dry_run")
		if p.err != nil {
			return nil, p.err
		}
		return do(r.Context(), r.PathValue("name"), dryRun)
	})
}

// answer writes what f returns, or its error with the code that fits.
func answer(h *handler, f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := f(r)
		if err != nil {
			h.failWith(w, err)
			return
		}
		h.write(w, http.StatusOK, body)
	}
}

// codeOf is the status code of an error.
func codeOf(err error) int {
	var r *admission.Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	for _, k := range []struct {
		kind error
		code int
	}{
		{ErrBadRequest, http.StatusBadRequest},
		{ErrNotFound, http.StatusNotFound},
		{ErrRefused, http.StatusConflict},
		{ErrTooLarge, http.StatusRequestEntityTooLarge},
		{ErrSlow, http.StatusRequestTimeout},
		{ErrBusy, http.StatusTooManyRequests},
		{ErrFull, http.StatusInsufficientStorage},
		{ErrNotYet, http.StatusServiceUnavailable},
	} {
		if errors.Is(err, k.kind) {
			return k.code
		}
	}
	if brokererr.Unavailable(err) {
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// plain is an error's text without the marker that its code already says, and without the broker's own words.
func plain(err error) string {
	var m *marked
	if errors.As(err, &m) {
		return brokererr.Plain(m.text)
	}
	var r *admission.Refusal
	if errors.As(err, &r) {
		return r.Description
	}
	return brokererr.Text(err)
}

// marked is an error of one of the kinds that have a code of their own.
type marked struct {
	kind  error
	text  string
	cause error // nil if the text says it all
}

func (m *marked) Error() string {
	if m.kind == ErrNoQuorum { //nolint:errorlint // the marker itself; the text says it all
		return m.text
	}
	return m.kind.Error() + ": " + m.text
}

func (m *marked) Unwrap() []error {
	if m.cause == nil {
		return []error{m.kind}
	}
	return []error{m.kind, m.cause}
}

// Mark makes an error of one of the kinds that have a code of their own.
func Mark(kind error, text string) error { return &marked{kind: kind, text: text} }

// Nodes lists the nodes of the cluster.
func (c *Client) Nodes(ctx context.Context) (*NodeList, error) {
	return ask[NodeList](ctx, c, http.MethodGet, "/v1/nodes")
}

// RemoveNode takes a dead node out of the cluster; a dry run only says what would be done.
func (c *Client) RemoveNode(ctx context.Context, name string, dryRun bool) (*NodeRemoval, error) {
	return ask[NodeRemoval](ctx, c, http.MethodPost, removePath("nodes", name, dryRun))
}

// Groups lists every group that was ever defined.
func (c *Client) Groups(ctx context.Context) (*GroupList, error) {
	return ask[GroupList](ctx, c, http.MethodGet, "/v1/groups")
}

// RemoveGroup removes a group that no live node serves; a dry run only says what would be done.
func (c *Client) RemoveGroup(ctx context.Context, name string, dryRun bool) (*GroupRemoval, error) {
	return ask[GroupRemoval](ctx, c, http.MethodPost, removePath("groups", name, dryRun))
}

// Topics lists every topic that was ever defined.
func (c *Client) Topics(ctx context.Context) (*TopicList, error) {
	return ask[TopicList](ctx, c, http.MethodGet, "/v1/topics")
}

// RemoveTopic removes a topic that no live node's config has; a dry run only says what would be done.
func (c *Client) RemoveTopic(ctx context.Context, name string, dryRun bool) (*TopicRemoval, error) {
	return ask[TopicRemoval](ctx, c, http.MethodPost, removePath("topics", name, dryRun))
}

func removePath(kind, name string, dryRun bool) string {
	path := "/v1/" + kind + "/" + url.PathEscape(name) + "/remove"
	if dryRun {
		path += "?dry_run=1"
	}
	return path
}

func ask[T any](ctx context.Context, c *Client, method, path string) (*T, error) {
	var out T
	if err := c.do(ctx, method, path, &out); err != nil {
		return nil, err
	}
	return &out, nil
}
