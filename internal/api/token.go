package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"
)

// openPaths need no token: whoever watches over machines asks them, often with tools that have none.
var openPaths = map[string]bool{"/livez": true, "/readyz": true}

// guard asks callers on the port for the token. Whoever reaches the socket has been let in by its file mode.
func guard(token string, next http.Handler) http.Handler {
	if token == "" {
		return next
	}
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if openPaths[r.URL.Path] || onSocket(r) || shows(r, want) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="leasehold"`)
		_ = writeJSON(w, http.StatusUnauthorized, failure{Error: "this needs the token of http.token_file"}) // A stranger's loss.
	})
}

// closeStrangers ends the port's connections behind an answer to a caller who has not shown the token, so that those who ask
// only for health hold none.
func closeStrangers(token string, next http.Handler) http.Handler {
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !onSocket(r) && (token == "" || !shows(r, want)) {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

func onSocket(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && local.Network() == "unix"
}

// shows compares in a time that tells nothing of the token, not even its length.
func shows(r *http.Request, want [sha256.Size]byte) bool {
	scheme, token, found := strings.Cut(r.Header.Get("Authorization"), " ")
	got := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return found && strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// guardChange lets through what changes the cluster: from the socket, or from who has shown the token. A port without a
// token answers everybody on this machine, whose browsers and users may all look and must not change a thing.
func guardChange(token string) func(http.HandlerFunc) http.Handler {
	return guardOpenPort(token, "changes are made through the agent's socket, or with a token (http.token_file)")
}

// guardPrivate is guardChange for messages, which are users' data: whoever may not add to them may not read them either.
func guardPrivate(token string) func(http.HandlerFunc) http.Handler {
	return guardOpenPort(token, "messages go through the agent's socket, or need a token (http.token_file)")
}

// guardOpenPort refuses with a text what comes in on a port that asks nobody for a token.
func guardOpenPort(token, refusal string) func(http.HandlerFunc) http.Handler {
	return func(next http.HandlerFunc) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if token != "" || onSocket(r) {
				next(w, r)
				return
			}
			_ = writeJSON(w, http.StatusForbidden, failure{Error: refusal}) // A stranger's loss.
		})
	}
}
