package ingress

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Refused is how often something of a user was refused for a reason.
type Refused struct {
	User   string `json:"user"` // or the address of somebody who was no user
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
}

// refusals counts what is refused and has the log say it at a bounded rate.
type refusals struct {
	log hclog.Logger

	mu       sync.Mutex
	counts   map[refusal]*tally // at most maxTallies
	reported time.Time
}

type refusal struct{ user, reason string }

type tally struct {
	count  uint64
	logged uint64
	last   string // what was refused last
}

// Bounds of what is kept and logged.
const (
	maxTallies  = 1024        // of users' names and reasons; addresses beyond it are counted together
	reportEvery = time.Minute // after the first of a kind, which is logged at once
)

// others stands for addresses that there is no room for.
const others = "others"

func newRefusals(log hclog.Logger) *refusals {
	return &refusals{log: log, counts: map[refusal]*tally{}, reported: time.Now()}
}

func (r *refusals) count(user, reason, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := refusal{user, reason}
	t := r.counts[key]
	if t == nil && len(r.counts) >= maxTallies {
		key.user = others
		t = r.counts[key]
	}
	if t == nil {
		t = &tally{}
		r.counts[key] = t
		r.say(key, t, 1, what)
		t.logged = 1
	}
	t.count++
	t.last = what
}

func (r *refusals) say(key refusal, t *tally, n uint64, what string) {
	r.log.Warn("client request refused", "user", key.user, "reason", key.reason, "count", n, "last", what)
}

// report logs what was refused since the last report, once a minute.
func (r *refusals) report(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.reported) < reportEvery {
		return
	}
	r.reported = now
	for key, t := range r.counts {
		if t.count > t.logged {
			r.say(key, t, t.count-t.logged, t.last)
			t.logged = t.count
		}
	}
}

func (r *refusals) list() []Refused {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Refused, 0, len(r.counts))
	for key, t := range r.counts {
		all = append(all, Refused{key.user, key.reason, t.count})
	}
	slices.SortFunc(all, func(a, b Refused) int {
		return cmp.Or(strings.Compare(a.User, b.User), strings.Compare(a.Reason, b.Reason))
	})
	return all
}

// Parts of a client's text in what it is answered.
const longest = 128

func shorten(s string) string {
	if len(s) > longest {
		return s[:longest] + "…"
	}
	return s
}

// quotable keeps a text within the quotes of an -ERR line.
func quotable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\'' {
			return '"'
		}
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}
