package status

import (
	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/membership"
	"leasehold/internal/peers"
	"leasehold/internal/registry"
)

// nodes lists every node that ever had a session, and every configured one, but for those that were removed from the
// cluster and from the config.
func (r *Reader) nodes(view lease.View, reports map[string]peers.Report, v membership.Voters) []api.Node {
	var nodes []api.Node
	seen := map[string]bool{}
	for _, rec := range view.Sessions {
		seen[rec.Node] = true
		if v.Removed(rec) && !r.configures(rec.Node) {
			continue
		}
		report := reports[rec.Node]
		node := api.Node{
			Name: rec.Node, Boot: rec.Boot, State: state(rec), Ready: rec.State == lease.Live && report.Ready,
			Version: rec.Release, Address: rec.Address,
		}
		if node.State == api.NodeLive {
			node.DiskFree, node.DiskShort, node.FsyncP99MS = report.Disk.Free, report.Disk.Short, report.Disk.FsyncP99MS
			node.Refused, node.LogDropped = report.Refused, report.LogDropped
		}
		switch {
		case rec.State == lease.Live:
			node.Partitions = Owned(view, rec)
		case v.Removed(rec):
			node.State = "removed"
		}
		nodes = append(nodes, node)
	}
	for _, p := range r.Config.Peers() {
		if !seen[p.Name] {
			nodes = append(nodes, api.Node{Name: p.Name, State: "absent", Address: p.Address})
		}
	}
	return nodes
}

// state is the state of a session in the words of the API.
func state(rec lease.Session) string {
	if rec.State == lease.Dead {
		return api.NodeDead
	}
	return string(rec.State)
}

// Owned counts the partitions that a node owns, by its session, in the groups of this node's config.
func Owned(view lease.View, rec lease.Session) (count int) {
	for _, g := range view.Groups {
		if registry.IsHousekeeping(g.Name) {
			continue
		}
		for _, l := range g.Leases {
			if l.Owner == rec.Node && l.Boot == rec.Boot {
				count++
			}
		}
	}
	return count
}
