package guard

import (
	"io"
	"net/http"
	"time"
)

// Bounds of what is read of a body behind its answer.
const (
	RestBytes   = 64 << 20
	RestTimeout = 10 * time.Second
)

// ReadRest reads what a handler has left of a body, once the answer is out. Many clients send all of a body before they
// look for an answer; to close the connection in the middle of it would hide from them why it was refused.
func ReadRest(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		control := http.NewResponseController(w)
		// Else the server closes the body with the answer. Where it cannot, nothing is left to read.
		_ = control.EnableFullDuplex()
		body := &notedBody{ReadCloser: r.Body}
		noted := r.WithContext(r.Context()) // A copy: the server itself looks at the body that it made.
		noted.Body = body
		next.ServeHTTP(w, noted)
		waits := r.Header.Get("Expect") != "" && !body.begun // For a word to send the body, which the answer is not.
		if body.ended || waits || control.Flush() != nil {
			return
		}
		_ = control.SetReadDeadline(time.Now().Add(RestTimeout))
		_, _ = io.CopyN(io.Discard, body, RestBytes) // What is more, or later, the client must bear.
	})
}

// notedBody knows how far a body has been read.
type notedBody struct {
	io.ReadCloser
	begun, ended bool // ended is true after an error, too.
}

func (b *notedBody) Read(p []byte) (int, error) {
	b.begun = true
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || err != nil
	return n, err
}
