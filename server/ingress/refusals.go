package ingress

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Refused counts what was refused to a user for a reason.
type Refused struct {
	User   string `json:"user"` // or the address of a client that had not logged in
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
}

// refusals counts what is refused, and logs it at a bounded rate.
type refusals struct {
	log hclog.Logger

	mu        sync.Mutex
	counts    map[refusal]*tally
	addresses int // of counts, at most maxTallies
	reported  time.Time
	lines     int // logged since, at most maxLines
}

type refusal struct{ user, reason string }

type tally struct {
	count  uint64
	logged uint64
	last   string // what was refused last
}

// Bounds of what is kept and logged. There are few users and reasons, but any number of addresses.
const (
	maxTallies  = 1024        // of addresses and reasons; those beyond it are counted together
	reportEvery = time.Minute // after the first of a kind, which is logged at once
	maxLines    = 20          // of first ones between two reports, and of a report
)

// others stands for the addresses beyond maxTallies.
const others = "others"

func newRefusals(log hclog.Logger) *refusals {
	return &refusals{log: log, counts: map[refusal]*tally{}, reported: time.Now()}
}

// count counts something that was refused to a user.
func (r *refusals) count(user, reason, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(refusal{user, reason}, what)
}

// countAddress counts something that was refused to a client that has not logged in.
func (r *refusals) countAddress(address, reason, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := refusal{address, reason}
	if r.counts[key] == nil {
		if r.addresses >= maxTallies {
			key.user = others
		} else {
			r.addresses++
		}
	}
	r.add(key, what)
}

func (r *refusals) add(key refusal, what string) {
	t := r.counts[key]
	if t == nil {
		t = &tally{}
		r.counts[key] = t
	}
	t.count++
	t.last = what
	if t.count == 1 && r.lines < maxLines {
		r.lines++
		r.logTally(key, t)
	}
}

// logTally logs what was counted since the last time.
func (r *refusals) logTally(key refusal, t *tally) {
	r.log.Warn("client request refused", "user", key.user, "reason", key.reason, "count", t.count-t.logged, "last", t.last)
	t.logged = t.count
}

// report logs once a minute what was refused since the last report: the most frequent line by line, the rest in one.
func (r *refusals) report(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.reported) < reportEvery {
		return
	}
	r.reported, r.lines = now, 0
	fresh := func(key refusal) uint64 { return r.counts[key].count - r.counts[key].logged }
	var keys []refusal
	for key := range r.counts {
		if fresh(key) > 0 {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b refusal) int { return cmp.Compare(fresh(b), fresh(a)) })
	rest := uint64(0)
	for i, key := range keys {
		if i < maxLines {
			r.logTally(key, r.counts[key])
			continue
		}
		rest += fresh(key)
		r.counts[key].logged = r.counts[key].count
	}
	if rest > 0 {
		r.log.Warn("client requests refused, further users and addresses", "kinds", len(keys)-maxLines, "count", rest)
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
