package api

import "net/http"

// refuseSurplus answers what came in on a connection too many.
func refuseSurplus(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from, _ := originOf(r.Context()); !from.surplus {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Connection", "close")
		askLater(w, http.StatusServiceUnavailable)
		_ = writeJSON(w, http.StatusServiceUnavailable, failure{Error: "too many connections; close some, or try again in a moment"})
	})
}
