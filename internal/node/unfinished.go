package node

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"leasehold/cluster"
	"leasehold/internal/api"
	"leasehold/worker"
)

// unfinished are the groups that their topic's record names and that were never defined, with their topic: a node died
// between the two, or is just at it. They hold purges back, for nobody knows where they begin.
func (c catalog) unfinished() map[string]string {
	all := map[string]string{}
	for topic, def := range c.topics {
		for _, name := range def.Groups {
			if _, defined := c.groups[name]; !defined {
				all[name] = topic
			}
		}
	}
	return all
}

// unfinishedInfo lists them as `group list` does.
func (c catalog) unfinishedInfo() (out []api.GroupInfo) {
	for name, topic := range c.unfinished() {
		partitions := c.topics[topic].Partitions
		out = append(out, api.GroupInfo{
			Name: name, Topic: topic, State: "unfinished", Nodes: c.nodes(name), Partitions: partitions, Unowned: partitions,
		})
	}
	return out
}

// unfinishedWarnings say what an operator can do.
func (c catalog) unfinishedWarnings() (out []string) {
	for name, topic := range c.unfinished() {
		out = append(out, fmt.Sprintf("group %s was not made to its end and holds back the messages of topic %s: "+
			"start a node that serves it, or `leasehold group remove %s`", name, topic, name))
	}
	return out
}

// removeUnfinished defines a group as removed, which lets its topic's messages go. A node that is making it finds that, and
// says so; if the node comes first, its definition stays.
func (n *Node) removeUnfinished(ctx context.Context, kv *cluster.KV, c catalog, out *api.GroupRemoval) error {
	if nodes := slices.Concat(c.live[out.Name]); len(nodes) > 0 {
		return refuse("group %q is served by %s: take it out of their configs and restart them first", out.Name, strings.Join(nodes, ", "))
	}
	if out.DryRun {
		return nil
	}
	var have groupDefinition
	want := groupDefinition{Version: 1, Topic: out.Topic, Start: worker.StartEarliest, Removed: true}
	if err := kv.Define(ctx, "group."+out.Name, want, &have); err != nil {
		return err
	}
	if !have.Removed {
		return refuse("group %q has just been made by a node that serves it: look at `leasehold group list`", out.Name)
	}
	n.log.Info("unfinished group removed", "group", out.Name, "topic", out.Topic)
	return nil
}
