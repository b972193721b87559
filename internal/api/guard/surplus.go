package guard

import "net/http"

import (
	"leasehold/internal/api/listen"
	"leasehold/internal/api/reply"
)

// Surplus answers what came in on a connection too many.
func Surplus(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from, _ := listen.OriginOf(r.Context()); !from.Surplus {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Connection", "close")
		reply.RetryLater(w, http.StatusServiceUnavailable)
		_ = reply.JSON(w, http.StatusServiceUnavailable,
			reply.Failure{Error: "too many connections; close some, or try again in a moment"})
	})
}
