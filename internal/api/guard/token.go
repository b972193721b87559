// Package guard is what every request of the HTTP API passes before it is answered: who may ask for what.
package guard

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/api/listen"
	"leasehold/internal/api/reply"
)

// openPaths need no token: monitoring polls them, often with tools that cannot send one.
var openPaths = map[string]bool{"/livez": true, "/readyz": true}

// Token requires the token on the port. Access to the socket is controlled by its file mode.
func Token(token string, next http.Handler) http.Handler {
	if token == "" {
		return next
	}
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if openPaths[r.URL.Path] || OnSocket(r) || shows(r, want) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="leasehold"`)
		// A stranger's loss.
		_ = reply.JSON(w, http.StatusUnauthorized, reply.Failure{Error: "this needs the token of http.token_file"})
	})
}

// CloseStrangers ends the port's connections behind an answer to a caller who has not shown the token, so that those
// who ask only for health hold none.
func CloseStrangers(token string, next http.Handler) http.Handler {
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !OnSocket(r) && (token == "" || !shows(r, want)) {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// OnSocket reports whether a request came in by a socket.
func OnSocket(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && local.Network() == "unix"
}

// shows compares in a time that tells nothing of the token, not even its length.
func shows(r *http.Request, want [sha256.Size]byte) bool {
	scheme, token, found := strings.Cut(r.Header.Get("Authorization"), " ")
	got := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return found && strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// Change lets through what changes the cluster: from the socket, or from who has shown the token. A port without a
// token answers everybody on this machine, whose browsers and users may all look and must not change a thing. A handler
// has the right to the socket by its user, and no business there: what it was made to run by a message must not seek or
// drop.
func Change(token string, childrenChange bool, log hclog.Logger) func(http.HandlerFunc) http.Handler {
	open := guardOpenPort(token, "changes are made through the agent's socket, or with a token (http.token_file)")
	return func(next http.HandlerFunc) http.Handler {
		return audited(log, open(func(w http.ResponseWriter, r *http.Request) {
			if from, _ := listen.OriginOf(r.Context()); !childrenChange && from.Caller.IsHandler() {
				_ = reply.JSON(w, http.StatusForbidden,
					reply.Failure{Error: "handlers may not make changes: run this outside of the agent's processes"})
				return
			}
			next(w, r)
		}))
	}
}

// Private is Change for messages, which are users' data: clients that may not publish may not read them either.
func Private(token string) func(http.HandlerFunc) http.Handler {
	return guardOpenPort(token, "messages go through the agent's socket, or need a token (http.token_file)")
}

const readOnlyRefusal = "this socket only shows state: messages and changes are for the agent's own user and root " +
	"(sudo)"

// guardOpenPort refuses with a text what comes in on a port that asks nobody for a token, or on the socket that only
// shows state.
func guardOpenPort(token, refusal string) func(http.HandlerFunc) http.Handler {
	return func(next http.HandlerFunc) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			from, _ := listen.OriginOf(r.Context())
			switch {
			case from.ReadOnly:
				_ = reply.JSON(w, http.StatusForbidden, reply.Failure{Error: readOnlyRefusal})
				return
			case token != "" || OnSocket(r):
				next(w, r)
				return
			}
			_ = reply.JSON(w, http.StatusForbidden, reply.Failure{Error: refusal}) // A stranger's loss.
		})
	}
}
