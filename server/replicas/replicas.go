// Package replicas looks after this node's own replicas of streams, in the broker of this process: their state, what is
// missing in them, reading one without a leader, followers that stall, and the memory that their caches take.
package replicas

import (
	"fmt"

	"github.com/hashicorp/go-hclog"
	broker "github.com/nats-io/nats-server/v2/server"
)

// Local are this node's own replicas of the streams of one account, as the broker in this process has them.
type Local struct {
	broker  *broker.Server
	account string
	server  string // name of this broker
	log     hclog.Logger
	notice  func(text string) // logs at info, not too often
}

// New makes the view of a broker's replicas. notice logs what an operator may want to know, at info.
func New(b *broker.Server, account, server string, log hclog.Logger, notice func(text string)) *Local {
	return &Local{broker: b, account: account, server: server, log: log, notice: notice}
}

// State is the state of this node's own replica of a stream, which may differ from what the stream's leader reports.
type State struct {
	Messages, Bytes uint64
	First, Last     uint64 // Sequences. Of an empty stream First is Last + 1, or nothing was ever stored and Last is 0.
	Leads           bool   // This node leads the stream.
}

// Missing describes the messages that are missing between the first and the last, "" if none are. In a stream from
// which only prefixes are deleted that is corruption, whatever the broker reports: after one flipped bit in a file it
// has been seen to drop the rest of that file at its next start and to report itself healthy and current.
func (c State) Missing() string {
	if c.Last == 0 {
		return ""
	}
	if want := c.Last + 1 - c.First; c.Messages != want {
		return fmt.Sprintf("it has %d messages from %d to %d where there should be %d", c.Messages, c.First, c.Last, want)
	}
	return ""
}

// Corruption describes what is wrong with the replica of a stream of which nothing above the floor was ever deleted, ""
// if nothing is. The floor must not be older than the state.
func (c State) Corruption(floor uint64) string {
	if missing := c.Missing(); missing != "" || c.Last == 0 || c.First <= floor+1 {
		return missing
	}
	return fmt.Sprintf("it begins at %d, and only messages up to %d may be gone", c.First, floor)
}

// States are the states of this node's replicas, by stream.
func (l *Local) States() (map[string]State, error) {
	streams, err := l.streams()
	if err != nil {
		return nil, err
	}
	out := make(map[string]State, len(streams))
	for _, d := range streams {
		out[d.Name] = State{
			Messages: d.State.Msgs, Bytes: d.State.Bytes, First: d.State.FirstSeq, Last: d.State.LastSeq, Leads: l.leads(d),
		}
	}
	return out, nil
}

// streams are the broker's details of the account's streams.
func (l *Local) streams() ([]broker.StreamDetail, error) {
	detail, err := l.broker.JszAccount(&broker.JSzOptions{Account: l.account, Streams: true})
	if err != nil {
		return nil, fmt.Errorf("read the state of this node's replicas: %w", err)
	}
	return detail.Streams, nil
}

// leads reports whether this node leads the stream.
func (l *Local) leads(d broker.StreamDetail) bool {
	return d.Cluster != nil && d.Cluster.Leader == l.server
}
