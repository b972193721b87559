package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	broker "github.com/nats-io/nats-server/v2/server"
)

// Copy is this node's own copy of a stream, as the broker in this process has it, not as the stream's leader says.
type Copy struct {
	Messages, Bytes uint64
	First, Last     uint64 // Sequences. Of an empty stream First is Last + 1, or nothing was ever stored and Last is 0.
	Leads           bool   // This node leads the stream.
}

// Hole says how many messages are missing between the first and the last, "" if none is. In a stream from which only
// prefixes are deleted that is damage, whatever the broker thinks: after one flipped bit in a file it has been seen to
// drop the rest of that file at its next start and to call itself healthy and current.
func (c Copy) Hole() string {
	if c.Last == 0 {
		return ""
	}
	if want := c.Last + 1 - c.First; c.Messages != want {
		return fmt.Sprintf("it has %d messages from %d to %d where there should be %d", c.Messages, c.First, c.Last, want)
	}
	return ""
}

// Damage says what is wrong with a copy of a stream of which nothing above the floor was ever deleted, "" if nothing is.
// The floor must not be older than the look at the copy.
func (c Copy) Damage(floor uint64) string {
	if hole := c.Hole(); hole != "" || c.Last == 0 || c.First <= floor+1 {
		return hole
	}
	return fmt.Sprintf("it begins at %d, and only messages up to %d may be gone", c.First, floor)
}

// Copies are this node's copies of our account's streams, by stream.
func (s *Server) Copies() (map[string]Copy, error) {
	streams, err := s.streams()
	if err != nil {
		return nil, err
	}
	out := make(map[string]Copy, len(streams))
	for _, d := range streams {
		out[d.Name] = Copy{
			Messages: d.State.Msgs, Bytes: d.State.Bytes, First: d.State.FirstSeq, Last: d.State.LastSeq, Leads: s.leads(d),
		}
	}
	return out, nil
}

// streams is what the broker in this process says of our account's streams.
func (s *Server) streams() ([]broker.StreamDetail, error) {
	detail, err := s.broker.JszAccount(&broker.JSzOptions{Account: Account, Streams: true})
	if err != nil {
		return nil, fmt.Errorf("look at this node's copies: %w", err)
	}
	return detail.Streams, nil
}

// leads reports whether this node leads the stream.
func (s *Server) leads(d broker.StreamDetail) bool {
	return d.Cluster != nil && d.Cluster.Leader == s.opt.Dir.ServerName()
}

// HasCopy reports whether the cluster has given this node a copy of the stream, loaded or not.
func (s *Server) HasCopy(stream string) bool {
	return s.broker.JetStreamIsStreamAssigned(Account, stream)
}

// StepDown lets another node lead the stream.
func (s *Server) StepDown(stream string) error {
	if err := s.broker.JetStreamStepdownStream(Account, stream); err != nil {
		return fmt.Errorf("step down as leader of stream %s: %w", stream, err)
	}
	return nil
}

// SetAside moves this node's copy of a stream out of the broker's way and returns where to. The stream's Raft group stays
// where it is: what this node has voted must not be forgotten. The broker must not be running; at its next start it
// fetches the copy anew from the others.
func (d *DataDir) SetAside(stream string, now time.Time) (string, error) {
	from := filepath.Join(d.StoreDir(), Account, "streams", stream)
	dir := filepath.Join(d.path, damagedDir)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("set the copy of %s aside: %w", stream, err)
	}
	to := filepath.Join(dir, stream+"-"+now.UTC().Format("20060102T150405Z"))
	if err := os.Rename(from, to); err != nil {
		return "", fmt.Errorf("set the copy of %s aside: %w", stream, err)
	}
	return to, errors.Join(syncDir(dir), syncDir(filepath.Dir(from)))
}
