package guard

import (
	"cmp"
	"net/http"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/api/listen"
)

// audited logs each request for a change, what came of it and who made it: those that are refused, too.
func audited(log hclog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			next.ServeHTTP(w, r)
			return
		}
		seen := &statusWriter{ResponseWriter: w}
		next.ServeHTTP(seen, r)
		log.Info("change requested", "by", listen.CallerOf(r.Context()), "request", r.Method+" "+r.URL.RequestURI(), "status",
			cmp.Or(seen.code, http.StatusOK))
	})
}

// statusWriter remembers the code of an answer.
type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w *statusWriter) WriteHeader(code int) {
	w.code = cmp.Or(w.code, code)
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
