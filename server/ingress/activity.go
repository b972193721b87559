package ingress

import (
	"leasehold/server/ingress/limits"
	"slices"
	"time"
)

// How long a user counts as active after its last message, and after the last report of another node.
const (
	activeFor = 10 * time.Second
	heardFor  = 5 * time.Second
)

// heard is the last report of another node about who publishes there.
type heard struct {
	users []string
	at    int64 // coarse clock
}

// Active returns the users that have published here lately, without those in the background.
func (in *Ingress) Active() []string {
	var names []string
	for name, u := range in.users {
		if !u.Background && u.active(in.now.Load()) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// ActiveElsewhere notes who has published lately on another node. A report expires unless it is repeated.
func (in *Ingress) ActiveElsewhere(node string, users []string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.elsewhere[node] = heard{users, in.now.Load()}
}

func (u *user) active(now int64) bool {
	at := u.published.Load()
	return at > 0 && now-at < int64(activeFor)
}

// bound tells the budget which users must leave room for others.
func (in *Ingress) bound(now int64) {
	active := map[string]bool{}
	for _, name := range in.Active() {
		active[name] = true
	}
	in.mu.Lock()
	for node, h := range in.elsewhere {
		if now-h.at > int64(heardFor) {
			delete(in.elsewhere, node)
			continue
		}
		for _, name := range h.users {
			active[name] = true
		}
	}
	in.mu.Unlock()
	var paces []*limits.Pace
	for _, u := range in.users {
		paces = append(paces, &u.pace)
	}
	quickest := in.inflight.Quickest(paces)
	for name, u := range in.users {
		others := len(active) > 1 || len(active) == 1 && !active[name]
		if in.inflight.Crowd(&u.pace, others, quickest, now) {
			in.log.Debug("window of a user", "user", u.String(), "bounded_because_others_publish", others)
		}
	}
}
