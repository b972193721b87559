package conformance

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"leasehold/worker/handler"
)

// service is a handler that keeps what a good one keeps, and whose answers a test can change.
type service struct {
	mu     sync.Mutex
	epoch  map[int]uint64
	broken bool
	change func(s *service, m *handler.Message, good handler.Result) handler.Result
	ended  chan struct{}
}

func (s *service) Run(ctx context.Context) error {
	<-ctx.Done()
	close(s.ended)
	return nil
}

func (s *service) Handle(ctx context.Context, m *handler.Message) handler.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := handler.Result{Status: handler.OK}
	if m.Epoch < s.epoch[m.Partition] {
		r = handler.Result{Status: handler.Unavailable, Reason: "over"}
	} else {
		s.epoch[m.Partition] = m.Epoch
	}
	if s.change != nil {
		r = s.change(s, m, r)
	}
	if r.Status == handler.Timeout {
		<-ctx.Done()
	}
	return r
}

func TestCallsFindOutAService(t *testing.T) {
	status := func(st handler.Status) handler.Result { return handler.Result{Status: st, Reason: "because"} }
	for name, c := range map[string]struct {
		change        func(s *service, m *handler.Message, good handler.Result) handler.Result
		wrong, better []string
	}{
		"good": {},
		"cannot be reached": {
			func(*service, *handler.Message, handler.Result) handler.Result { return status(handler.Unavailable) },
			[]string{"message"}, nil,
		},
		"never answers": {
			func(*service, *handler.Message, handler.Result) handler.Result { return status(handler.Timeout) },
			[]string{"message"}, nil,
		},
		"rejects all": {
			func(*service, *handler.Message, handler.Result) handler.Result { return status(handler.Reject) },
			nil, []string{"message", "stale epoch"},
		},
		"keeps no epoch": {
			func(*service, *handler.Message, handler.Result) handler.Result { return status(handler.OK) },
			nil, []string{"stale epoch"},
		},
		"hangs on a retry": {
			func(_ *service, m *handler.Message, good handler.Result) handler.Result {
				if m.Attempt > 1 {
					return status(handler.Timeout)
				}
				return good
			}, []string{"retry"}, nil,
		},
		"tries what is too large again and again": {
			func(_ *service, m *handler.Message, good handler.Result) handler.Result {
				if len(m.Data) > 100 {
					return status(handler.Retry)
				}
				return good
			}, nil, []string{"huge payload"},
		},
		"falls over on binary": {
			func(s *service, m *handler.Message, good handler.Result) handler.Result {
				if s.broken = s.broken || !utf8.Valid(m.Data); s.broken {
					return status(handler.Unavailable)
				}
				return good
			}, []string{"binary payload", "stale epoch"}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &service{epoch: make(map[int]uint64), change: c.change, ended: make(chan struct{})}
			o := Options{
				Env: handler.Env{Group: "conformance", Topic: "orders"}, Timeout: 20 * time.Second, MaxPayload: 1000,
				Key: "c-17", Payloads: [][]byte{[]byte("a")},
			}
			if slices.Contains([]string{"never answers", "hangs on a retry"}, name) {
				o.Timeout = time.Second
			}
			r, err := Calls(t.Context(), s, o)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", r.Checks)
			wrong, better := with(r, Wrong), with(r, Better)
			if !slices.Equal(wrong, append([]string{}, c.wrong...)) || !slices.Equal(better, append([]string{}, c.better...)) {
				t.Errorf("wrong %q, better %q", wrong, better)
			}
			<-s.ended // Its Run was joined.
		})
	}
}
