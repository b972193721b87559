package status

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"leasehold/cluster"
	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/bytesize"
	"leasehold/internal/peers"
	"leasehold/internal/plural"
	"leasehold/internal/registry"
)

// timingLAN is the timing that wants a disk of some speed.
const timingLAN = "lan"

// diskWarnings says what an operator should do about the nodes' disks, and which topics do not take messages for them.
func diskWarnings(timing string, reports map[string]peers.Report, topics []api.Topic) (out []string) {
	short := false
	for name, r := range reports {
		d := r.Disk
		if d.Short {
			short = true
			out = append(out, fmt.Sprintf("node %s is short of disk space (%s free, server.min_free %s): publishes are "+
				"refused on all nodes "+
				"until it has space; stored messages are handled as usual", name, bytesize.Size(d.Free).Short(),
				bytesize.Size(d.MinFree).Short()))
		}
		if d.SlowFsync && timing == timingLAN {
			out = append(out, fmt.Sprintf("node %s has a slow disk: of its synced writes more than one in 1,000 took longer "+
				"than 250 ms, which "+
				"makes elections with timing \"lan\"; use cluster.timing = \"wan\" from the start of a new cluster, or a faster "+
				"disk", name))
		}
	}
	slices.Sort(out)
	var held []string
	for _, t := range topics {
		if t.Held {
			held = append(held, t.Name)
		}
	}
	if len(held) > 0 && !short {
		out = append(out, fmt.Sprintf("publishes to %s are refused, as when a node is short of disk space, and no node "+
			"reports that it is: they are "+
			"accepted again once every live node has reported that it has space", strings.Join(held, ", ")))
	}
	return out
}

// logWarnings names the nodes whose log is not written now.
func logWarnings(reports map[string]peers.Report) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(reports)) {
		if r := reports[name]; r.LogStuck {
			out = append(out, fmt.Sprintf("node %s cannot write its log, %d lines dropped so far: check what reads its "+
				"stderr, or the disk that it goes to",
				name, r.LogDropped))
		}
	}
	return out
}

// corruptionWarnings says which nodes have corrupt replicas, and fills in the topics.
func corruptionWarnings(records map[string]registry.Corruption, nodes []api.Node) (out []string) {
	for i := range nodes {
		rec := records[nodes[i].Name]
		for _, topic := range slices.Sorted(maps.Keys(rec.Topics)) {
			nodes[i].Damaged = append(nodes[i].Damaged, topic)
			text := fmt.Sprintf("node %s has a corrupt replica of topic %s: %s; check its disk", nodes[i].Name, topic,
				rec.Topics[topic])
			if len(rec.WaitingFor) > 0 {
				text += "; it does not join the groups until the replica is repaired, and waits for " + rec.WaitingFor[0]
			}
			out = append(out, text)
		}
	}
	return out
}

// deadLetterWarnings says which groups have dead letters or parked keys.
func deadLetterWarnings(groups []api.Group) (out []string) {
	for _, g := range groups {
		parked := 0
		for _, p := range g.Partitions {
			parked += p.Parked
		}
		switch {
		case parked > 0:
			out = append(out, fmt.Sprintf("group %s: %s %s for `leasehold dlq release %s --all`; list them with `leasehold "+
				"dlq list %s --kind parked`",
				g.Name, plural.Of(parked, "parked key"), plural.Verb(parked, "waits", "wait"), g.Name, g.Name))
		case g.DeadLetters > 0:
			out = append(out, fmt.Sprintf("group %s: %s %s for an operator: `leasehold dlq list %s`",
				g.Name, plural.Of(g.DeadLetters, "dead letter"), plural.Verb(g.DeadLetters, "waits", "wait"), g.Name))
		}
	}
	return out
}

// viewWarnings says what an operator should look at in what the lease protocol knows.
func (r *Reader) viewWarnings(view lease.View) (out []string) {
	for _, rec := range view.Sessions {
		if rec.State == lease.Live && rec.ConfigHash != r.ConfigHash {
			out = append(out, fmt.Sprintf("node %s runs with other topic or group settings than this node", rec.Node))
		}
	}
	for _, a := range view.Alarms {
		out = append(out, fmt.Sprintf("%s; look at sequence %d of the stream %s for what wrote it", a.Text, a.Revision,
			cluster.Stream))
	}
	if !view.Live {
		out = append(out, "this node: "+view.State)
	}
	return out
}

// CatalogWarnings says what an operator should look at in the catalog.
func CatalogWarnings(c registry.Catalog) (out []string) {
	for name, def := range c.Groups {
		switch live := c.Servers(name); {
		case def.Removed && len(live) > 0:
			out = append(out, fmt.Sprintf("group %s was removed, and %s still serves it", name, strings.Join(live, ", ")))
		case def.Undefined && len(live) == 0:
			out = append(out, fmt.Sprintf("group %s was only partly created and holds back the messages of topic %s: "+
				"start a node that serves it, or `leasehold group remove %s`", name, def.Topic, name))
		case !def.Removed && len(live) == 0:
			out = append(out, fmt.Sprintf("group %s is in no live node's config and holds back the messages of topic %s: "+
				"start a node that serves it, or `leasehold group remove %s`", name, def.Topic, name))
		}
	}
	for name, def := range c.Topics {
		if live := c.TopicNodes(name); def.Removed && len(live) > 0 {
			out = append(out, fmt.Sprintf("topic %s was removed, and the config of %s still has it: take it out and restart",
				name, strings.Join(live, ", ")))
		}
	}
	slices.Sort(out)
	return out
}
