package peers

import (
	"cmp"
	"context"
	"slices"

	"github.com/nats-io/nats.go"

	"leasehold/internal/api"
	"leasehold/internal/logsink"
	"leasehold/server/disk"
	"leasehold/server/ingress"
	"leasehold/worker/lane"
)

// maxRefused bounds what a report says of refusals.
const maxRefused = 50

// Lanes are those of a group on this node.
type Lanes interface{ Status() []lane.Status }

// Reporter reports what this node knows of itself.
type Reporter struct {
	Node   string
	Ready  func() []string  // What the node waits for.
	Lanes  map[string]Lanes // By group.
	Disk   interface{ State() disk.State }
	Broker interface{ Refused() []ingress.Refused }
	Log    *logsink.Sink
	Peers  *nats.Conn
}

// Answer is a part that reports when another node asks, until ctx ends.
func (r Reporter) Answer(ctx context.Context) error {
	return Answer(r.Peers, StatusSubject, func(context.Context, []byte) any { return r.Report() })(ctx)
}

// Report is what this node says of itself now.
func (r Reporter) Report() Report {
	report := Report{Node: r.Node, Ready: len(r.Ready()) == 0, Lanes: map[string][]Lane{}, Disk: NewDisk(r.Disk.State()),
		Refused: r.refused()}
	report.LogDropped, report.LogStuck = r.Log.Dropped()
	for group, lanes := range r.Lanes {
		for _, l := range lanes.Status() {
			report.Lanes[group] = append(report.Lanes[group], NewLane(l))
		}
	}
	return report
}

// refused is what this node has refused clients, most frequent first.
func (r Reporter) refused() []api.Refused {
	var all []api.Refused
	for _, one := range r.Broker.Refused() {
		all = append(all, api.Refused(one))
	}
	slices.SortStableFunc(all, func(a, b api.Refused) int { return cmp.Compare(b.Count, a.Count) })
	return all[:min(len(all), maxRefused)]
}
