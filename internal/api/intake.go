package api

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// Limits of the bodies that are being read or published, all together and each.
const (
	maxBodies    = 64 << 20         // Bytes.
	bodiesPart   = 8                // Of the memory limit, where that is less.
	batchPart    = 4                // Of that is what one body may have, if several messages are in it.
	requestCost  = 64 << 10         // What a request weighs before any of its body is there; bounds their number.
	bodyTimeout  = 60 * time.Second // For a whole body.
	paceTimeout  = 10 * time.Second // For the next paceBytes of it.
	paceBytes    = 8 << 10
	publishLimit = 90 * time.Second // From the request to the end of its answer; a node takes half a minute at most.
)

// ErrSlow: the body does not arrive.
var ErrSlow = errors.New("too slow")

// intake bounds the memory of bodies. What counts is what has arrived. A client gets more while it holds less than is
// free, so that one alone gets half of all, and there is always something left for the next.
type intake struct {
	total int64

	mu   sync.Mutex
	used int64
	by   map[string]int64 // used, by client; only those with some
}

func newIntake(total int64) *intake { return &intake{total: total, by: map[string]int64{}} }

// share is what one request holds of the intake.
type share struct {
	from   *intake
	client string
	bytes  int64
}

// open begins a request.
func (i *intake) open(client string) (*share, error) {
	s := &share{from: i, client: client}
	return s, s.grow(requestCost)
}

// grow takes more, if there is some for this client.
func (s *share) grow(n int64) error {
	i := s.from
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.by[s.client]+n > i.total-i.used {
		return Mark(ErrBusy, "other requests fill the memory for bodies; send this again in a moment")
	}
	i.used += n
	i.by[s.client] += n
	s.bytes += n
	return nil
}

// close gives everything back.
func (s *share) close() {
	i := s.from
	i.mu.Lock()
	defer i.mu.Unlock()
	i.used -= s.bytes
	if i.by[s.client] -= s.bytes; i.by[s.client] == 0 {
		delete(i.by, s.client)
	}
	s.bytes = 0
}

// pacedBody reads a body into its request's share, and ends one that comes too slowly.
type pacedBody struct {
	body    io.Reader
	share   *share
	control *http.ResponseController
	step    time.Duration // For the next paceBytes.
	end     time.Time     // Of the whole body.
	pace    int           // Bytes that must come before the deadline moves.
}

// extend gives time for the next bytes.
func (b *pacedBody) extend() {
	b.pace = paceBytes
	due := time.Now().Add(b.step)
	if due.After(b.end) {
		due = b.end
	}
	_ = b.control.SetReadDeadline(due) // A server that cannot has no limit of its own.
}

func (b *pacedBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, Mark(ErrSlow, "the body came too slowly: at least 8 KiB must arrive in 10 s, and all of it in a minute")
	}
	if n > 0 {
		if failed := b.share.grow(int64(n)); failed != nil {
			return 0, failed
		}
	}
	if b.pace -= n; b.pace <= 0 {
		b.extend()
	}
	return n, err
}
