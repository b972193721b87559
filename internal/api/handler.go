package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/api/guard"
	"leasehold/internal/api/listen"
	"leasehold/internal/api/reply"
)

// handler answers requests from a Source.
type handler struct {
	source Source
	alive  func() error
	log    hclog.Logger
	open   bool // The port asks nobody for a token.
}

// newHandler is the table of routes. Answers without an end are ended when closing is closed.
func newHandler(opt Options, log hclog.Logger, closing <-chan struct{}) http.Handler {
	h := &handler{source: opt.Source, alive: opt.Alive, log: log, open: opt.Token == ""}
	mux := http.NewServeMux()
	for pattern, f := range h.routes(opt, closing) {
		mux.Handle(pattern, h.strict(pattern, f))
	}
	mux.HandleFunc("/", h.unknown)
	return mux
}

// routes are all of them.
func (h *handler) routes(opt Options, closing <-chan struct{}) map[string]http.Handler {
	all := map[string]http.Handler{
		"GET /livez":             http.HandlerFunc(h.live),
		"GET /readyz":            http.HandlerFunc(h.ready),
		"GET /v1/status":         http.HandlerFunc(h.status),
		"GET /v1/topics/{topic}": http.HandlerFunc(h.topic),
	}
	change := guard.Change(opt.Token, opt.ChildrenChange, h.log)
	maps.Copy(all, h.memberRoutes(opt.Membership, change))
	maps.Copy(all, h.requestRoutes(opt.Requests, change, closing))
	maps.Copy(all, h.explainRoutes(opt))
	maps.Copy(all, h.messageRoutes(opt, closing))
	return all
}

func (h *handler) live(w http.ResponseWriter, _ *http.Request) {
	if h.alive != nil {
		if err := h.alive(); err != nil {
			h.write(w, http.StatusServiceUnavailable, Liveness{Reason: err.Error()})
			return
		}
	}
	h.write(w, http.StatusOK, Liveness{Live: true})
}

func (h *handler) ready(w http.ResponseWriter, _ *http.Request) {
	reasons := plainTexts(h.source.Ready())
	code := http.StatusOK
	if len(reasons) > 0 {
		code = http.StatusServiceUnavailable
	}
	reply.RetryLater(w, code)
	h.write(w, code, Readiness{Ready: len(reasons) == 0, Reasons: reasons})
}

func (h *handler) status(w http.ResponseWriter, r *http.Request) {
	s, err := h.source.Status(r.Context())
	if err != nil {
		if !errors.Is(err, ErrNotYet) {
			err = Mark(ErrNotYet, plain(err))
		}
		h.failWith(w, err)
		return
	}
	if s = s.normal(); h.open && !guard.OnSocket(r) {
		s = s.withoutTexts()
	}
	h.write(w, http.StatusOK, s)
}

func (h *handler) topic(w http.ResponseWriter, r *http.Request) {
	info, ok := h.source.Topic(r.PathValue("topic"))
	if !ok {
		h.noTopic(w, r)
		return
	}
	h.write(w, http.StatusOK, info)
}

func (h *handler) noTopic(w http.ResponseWriter, r *http.Request) {
	h.fail(w, http.StatusNotFound, noTopic(r))
}

func noTopic(r *http.Request) string {
	return fmt.Sprintf("there is no topic %q here", r.PathValue("topic"))
}

func (h *handler) unknown(w http.ResponseWriter, r *http.Request) {
	h.fail(w, http.StatusNotFound, fmt.Sprintf("there is no %s %s here", r.Method, r.URL.Path))
}

func (h *handler) fail(w http.ResponseWriter, code int, text string) {
	h.write(w, code, reply.Failure{Error: text})
}

func (h *handler) write(w http.ResponseWriter, code int, body any) {
	if err := reply.JSON(w, code, body); err != nil {
		h.log.Debug("answer not sent", "error", err)
	}
}

// By names who makes the request that a context belongs to; empty outside of one.
func By(ctx context.Context) string { return listen.CallerOf(ctx) }
