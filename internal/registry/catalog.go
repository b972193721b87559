package registry

import (
	"context"
	"errors"
	"slices"

	"leasehold/cluster/lease"
	"leasehold/worker"
)

// Catalog is every topic and group that was ever defined, and which live nodes take part in them.
type Catalog struct {
	Topics map[string]Topic
	Groups map[string]Group
	live   map[string][]string // Live nodes by group, housekeeping groups among them.
}

// Catalog reads the topics and groups, and combines them with the sessions, by node.
func (r *Registry) Catalog(ctx context.Context, sessions map[string]lease.Session) (Catalog, error) {
	c := Catalog{live: map[string][]string{}}
	var err1, err2 error
	c.Topics, err1 = r.Topics(ctx)
	c.Groups, err2 = r.Groups(ctx)
	c.addUndefined()
	for _, s := range sessions {
		if s.State == lease.Live {
			for _, g := range s.Groups {
				c.live[g] = append(c.live[g], s.Node)
			}
		}
	}
	for _, nodes := range c.live {
		slices.Sort(nodes)
	}
	return c, errors.Join(err1, err2)
}

// addUndefined adds the groups that a topic's record names and that have no record: the node that was to define them
// died in between. They hold messages back all the same.
func (c Catalog) addUndefined() {
	for topic, def := range c.Topics {
		for _, g := range def.Groups {
			if _, ok := c.Groups[g]; !ok && c.Groups != nil {
				c.Groups[g] = Group{Version: Version, Topic: topic, Start: worker.StartEarliest, StartAfter: def.Floor,
					Undefined: true}
			}
		}
	}
}

// NeverDefined is a group of which there are only dead letters: the node that was to define it died first. It is
// defined like this when it is removed, so that its name is used up.
func NeverDefined() Group {
	return Group{Version: Version, Topic: "(unknown)", Start: worker.StartEarliest, Undefined: true}
}

// Servers lists the live nodes that serve a group, never null.
func (c Catalog) Servers(group string) []string { return append([]string{}, c.live[group]...) }

// TopicNodes lists the live nodes whose config has a topic, never null.
func (c Catalog) TopicNodes(topic string) []string { return c.Servers(HousekeepingGroup(topic)) }

// GroupsOf lists the groups of a topic that were not removed.
func (c Catalog) GroupsOf(topic string) (groups []string) {
	for name, def := range c.Groups {
		if def.Topic == topic && !def.Removed {
			groups = append(groups, name)
		}
	}
	slices.Sort(groups)
	return groups
}

// LiveNodes counts the live nodes that take part in anything.
func (c Catalog) LiveNodes() int {
	all := map[string]bool{}
	for _, nodes := range c.live {
		for _, node := range nodes {
			all[node] = true
		}
	}
	return len(all)
}
