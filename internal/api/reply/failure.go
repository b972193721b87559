// Package reply is the form of answers of the HTTP API that are not what was asked for.
package reply

import (
	"encoding/json"
	"net/http"
)

// Failure is the body of every answer that is not what was asked for.
type Failure struct {
	Error   string `json:"error"`
	ErrCode uint16 `json:"err_code,omitempty"` // Of the admission.Kind, if a message was refused.

	NoQuorum bool `json:"no_quorum,omitempty"` // Too few nodes answer, as Error says.
}

// JSON sends an answer. The error is that of the connection.
func JSON(w http.ResponseWriter, code int, body any) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	return json.NewEncoder(w).Encode(body)
}

// RetryLater says when to send again what may work then.
func RetryLater(w http.ResponseWriter, code int) {
	if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
}
