package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"leasehold/internal/api"
	"leasehold/internal/bytesize"
	"leasehold/internal/config"
	"leasehold/worker"
)

// storeTimeout is how long `config validate` waits for an agent that may not be there.
const storeTimeout = 3 * time.Second

// storeWarnings compares a config with what the agent of its data directory has stored. Without an agent there is
// nothing to compare with.
func storeWarnings(ctx context.Context, c *config.Config) []string {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	client := api.NewClient(c.SocketPath())
	topics, err1 := client.Topics(ctx)
	groups, err2 := client.Groups(ctx)
	if err1 != nil || err2 != nil {
		return nil
	}
	s := comparison{config: c, topics: topics, groups: groups}
	return slices.Concat(s.sizes(), s.leftOver())
}

// comparison is a config beside what the cluster has.
type comparison struct {
	config *config.Config
	topics *api.TopicList
	groups *api.GroupList
}

// claim is a stream of the config, its size and what it has now.
type claim struct {
	what         string
	wanted, has  bytesize.Size
	holds        bytesize.Size // What is stored in it now.
	new, removed bool
}

// claims lists the streams for which the config states a size or that are new.
func (s comparison) claims() (all []claim) {
	for _, t := range s.config.Topics {
		i := slices.IndexFunc(s.topics.Topics, func(d api.TopicDetail) bool { return d.Name == t.Name })
		c := claim{what: "topic " + t.Name, wanted: t.MaxBytes, new: i < 0}
		if c.new && c.wanted == 0 {
			c.wanted = s.config.DefaultMaxBytes()
		}
		if i >= 0 {
			d := s.topics.Topics[i]
			c.has, c.holds, c.removed = bytesize.Size(d.MaxBytes), bytesize.Size(d.Bytes), d.State == "removed"
		}
		all = append(all, c)
	}
	for _, g := range s.config.Groups {
		i := slices.IndexFunc(s.groups.Groups, func(d api.GroupInfo) bool { return d.Name == g.Name })
		c := claim{what: "dead letters of group " + g.Name, wanted: g.DLQMaxBytes, new: i < 0}
		if c.new && c.wanted == 0 {
			c.wanted = s.config.DefaultDLQMaxBytes()
		}
		if i >= 0 {
			c.has, c.removed = bytesize.Size(s.groups.Groups[i].DLQMaxBytes), s.groups.Groups[i].State == "removed"
		}
		all = append(all, c)
	}
	return all
}

// sizes says what will not get the size that it wants, and what is smaller than what it holds.
func (s comparison) sizes() (out []string) {
	limit := s.config.Server.MaxStore
	free := limit - bytesize.Size(s.topics.Reserved)
	if free < 0 {
		out = append(out, fmt.Sprintf("server.max_store: the streams may take %s together, max_store is %s (%s): each "+
			"keeps its size until you lower it",
			bytesize.Size(s.topics.Reserved).Short(), limit.Short(), s.holders()))
	}
	for _, c := range s.claims() {
		more := c.wanted - c.has
		switch {
		case c.removed:
			out = append(out, fmt.Sprintf("%s: it was removed, and its name is used up: the agent will refuse to start; use "+
				"another name", c.what))
		case c.wanted == 0:
		case c.wanted < c.holds:
			out = append(out, fmt.Sprintf("%s: %s is less than the %s that it holds: publishes are refused until enough is "+
				"handled and purged",
				c.what, c.wanted.Short(), c.holds.Short()))
		case more > max(free, 0):
			out = append(out, fmt.Sprintf("%s wants %s, %s of max_store %s is free (%s): it %s until there is room",
				c.what, c.wanted.Short(), max(free, 0).Short(), limit.Short(), s.holders(), c.meanwhile()))
		default:
			free -= max(more, 0)
		}
	}
	return out
}

func (c claim) meanwhile() string {
	if c.new {
		return "gets what is free"
	}
	return "has " + c.has.Short() + " and gets what is free"
}

// holders says which topics and groups have how much.
func (s comparison) holders() string {
	var parts []string
	for _, t := range s.topics.Topics {
		if t.MaxBytes > 0 {
			parts = append(parts, fmt.Sprintf("%s %s%s", t.Name, bytesize.Size(t.MaxBytes).Short(), s.absent(t.Name)))
		}
	}
	for _, g := range s.groups.Groups {
		if g.DLQMaxBytes > 0 {
			parts = append(parts, fmt.Sprintf("dead letters of %s %s", g.Name, bytesize.Size(g.DLQMaxBytes).Short()))
		}
	}
	return strings.Join(parts, "; ")
}

func (s comparison) absent(topic string) string {
	if _, ok := s.config.Topic(topic); ok {
		return ""
	}
	return ", not in this config"
}

// leftOver names what no live node will have once this one runs with the config.
func (s comparison) leftOver() (out []string) {
	only := func(nodes []string) bool {
		return !slices.ContainsFunc(nodes, func(n string) bool { return n != s.config.Node.Name })
	}
	for _, g := range s.groups.Groups {
		kept := slices.ContainsFunc(s.config.Groups, func(c worker.Config) bool { return c.Name == g.Name })
		if !kept && g.State != "removed" && only(g.Nodes) {
			out = append(out, fmt.Sprintf("group %s will be in no live node's config and hold back the messages of topic %s: "+
				"after the restart "+
				"`leasehold group remove %s`", g.Name, g.Topic, g.Name))
		}
	}
	for _, t := range s.topics.Topics {
		if _, kept := s.config.Topic(t.Name); !kept && t.State != "removed" && only(t.Nodes) {
			out = append(out, fmt.Sprintf("topic %s will be in no live node's config and reserve %s of max_store: after the "+
				"restart "+
				"`leasehold topic remove %s`", t.Name, bytesize.Size(t.MaxBytes).Short(), t.Name))
		}
	}
	return out
}
