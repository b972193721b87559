package lease

import (
	"cmp"
	"maps"
	"slices"
)

// View is what a node knows about ownership, for display. It proves nothing.
type View struct {
	Boot     uint64
	Live     bool // Our session is live and its fence ahead.
	State    string
	Renewing bool      // It tries to renew the session or to begin one, and has had no reply in time.
	Sessions []Session // Of every node, by name; ours too once it was written.
	Groups   []GroupView
	Alarms   []Alarm // By key.
}

// GroupView is one group's leases by partition.
type GroupView struct {
	Name     string
	Leases   []Lease
	Commands Commands
}

var phaseNames = map[phase]string{
	loading: "reading sessions and leases", watching: "waiting for the session of another node of this name to end",
	saving: "saving the boot number", publishing: "publishing the session", running: "live",
	rejoining: "stopping lanes after being declared dead", ending: "ending the session", finished: "ended",
}

// View returns a copy of what is known.
func (c *Core) View() View {
	v := View{Boot: c.self.boot, Live: c.phase == running && !c.self.expired, State: phaseNames[c.phase]}
	v.Renewing = c.phase == publishing || c.phase == running && c.self.expired
	if c.phase == running && c.self.expired {
		v.State = "session could not be renewed in time"
	}
	own := c.self.rec
	for _, p := range c.peers {
		if own != nil && own.Node < p.name {
			v.Sessions = append(v.Sessions, *own)
			own = nil
		}
		if p.rec != nil {
			v.Sessions = append(v.Sessions, *p.rec)
		}
	}
	if own != nil {
		v.Sessions = append(v.Sessions, *own)
	}
	v.Alarms = slices.SortedFunc(maps.Values(c.alarms), func(a, b Alarm) int {
		return cmp.Compare(a.Key.String(), b.Key.String())
	})
	for _, g := range c.groups {
		gv := GroupView{Name: g.Name, Commands: g.commands}
		for _, ls := range g.leases {
			gv.Leases = append(gv.Leases, ls.rec)
		}
		v.Groups = append(v.Groups, gv)
	}
	return v
}
