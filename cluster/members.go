package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster/lease"
)

// Errors of changing who belongs to the cluster.
var (
	ErrAlive   = errors.New("it is alive")
	ErrUnknown = errors.New("nothing is known of it")
)

// LookKV returns the store on a bucket that may not be there yet, to read from.
func LookKV(nc *nats.Conn) (*KV, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("look into the bucket %s: %w", bucket, err)
	}
	return &KV{nc: nc, js: js}, nil
}

// Definition is one stored definition or other record that is not of the lease protocol.
type Definition struct {
	Name     string // What follows its kind in the key: "orders" of "topic.orders".
	Revision uint64
	Data     []byte
}

// Definitions reads every record of a kind ("topic", "group", "peer") that some replica has, by name.
func (s *KV) Definitions(ctx context.Context, kind string) ([]Definition, error) {
	var all []Definition
	err := s.lastMessages(ctx, []string{subjects + kind + ".*"}, func(m *jetstream.RawStreamMsg) error {
		if len(m.Data) > 0 && m.Header.Get("KV-Operation") == "" {
			all = append(all, Definition{Name: strings.TrimPrefix(m.Subject, subjects+kind+"."), Revision: m.Sequence, Data: m.Data})
		}
		return nil
	})
	slices.SortFunc(all, func(a, b Definition) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

// ReadDefinition decodes one record into value and returns its revision, 0 if there is none. One that is not valid, or was
// deleted, is an ErrNotARecord, with the revision to write over.
func (s *KV) ReadDefinition(ctx context.Context, key string, value any) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	rev, data, err := s.get(ctx, key)
	if err != nil || rev == 0 {
		return 0, err
	}
	return rev, Decode(key, rev, data, value)
}

// EndSession says for a node that was removed that its session life is over. Only a dead one can be ended by others: a
// live session is refused with ErrAlive, and the compare-and-set loses against a renewal or a new life in between. Boot
// stays as it is, so that no later life of that name can use the number again.
func (s *KV) EndSession(ctx context.Context, node string) error {
	k := lease.SessionKey(node)
	saw, err := s.Read(ctx, k)
	switch {
	case err != nil:
		return err
	case saw.Invalid != "":
		return errors.New(saw.Invalid)
	case saw.Session == nil:
		return ErrUnknown
	case saw.Session.State == lease.Live:
		return ErrAlive
	case saw.Session.State == lease.Ended:
		return nil
	}
	rec := *saw.Session
	rec.State, rec.Nonce = lease.Ended, ""
	rev, err := s.Write(ctx, lease.Write{Key: k, Revision: saw.Revision, Session: &rec})
	if err != nil {
		return err
	}
	s.Announce(lease.Saw{Key: k, Revision: rev, Session: &rec})
	return nil
}

// groupRecord is what every definition of a group has that this package looks at.
type groupRecord struct {
	Topic   string `json:"topic"`
	Removed bool   `json:"removed"`
}

// Valid says what is missing.
func (r groupRecord) Valid() error {
	if r.Topic == "" {
		return errors.New("it names no topic")
	}
	return nil
}

// groupsAndServers reads the definitions of groups, and who lists which of them in a live session. One replica answers
// for both, so whoever is seen to have confirmed a definition is seen to be live as well.
func (s *KV) groupsAndServers(ctx context.Context) (defs map[string]Definition, servers map[string][]string, err error) {
	defs, servers = map[string]Definition{}, map[string][]string{}
	err = s.lastMessages(ctx, []string{subjects + "group.*", subjects + "session.*"}, func(m *jetstream.RawStreamMsg) error {
		if len(m.Data) == 0 || m.Header.Get("KV-Operation") != "" {
			return nil
		}
		if name, ok := strings.CutPrefix(m.Subject, subjects+"group."); ok {
			defs[name] = Definition{Name: name, Revision: m.Sequence, Data: m.Data}
			return nil
		}
		k, _ := parseKey(strings.TrimPrefix(m.Subject, subjects))
		saw, err := decode(k, m.Sequence, m.Data)
		if err != nil { // it may be that of a node which serves any group
			return err
		}
		if rec := saw.Session; rec != nil && rec.State == lease.Live {
			for _, g := range rec.Groups {
				servers[g] = append(servers[g], rec.Node)
			}
		}
		return nil
	})
	for _, nodes := range servers {
		slices.Sort(nodes)
	}
	return defs, servers, err
}

// RemoveGroup marks a group's definition removed, unless a live session lists it: then it returns ErrAlive and who. With
// dry it only looks. The definition and the leases stay: a group of this name never begins anew, for its leases would
// say that messages are finished that the new group has not seen.
//
// A node that starts with the group confirms the definition once its session is live (ConfirmGroup), by a write. If it
// comes first, the compare-and-set here is refused, and the next try sees its session. If the removal comes first, the
// node finds it and ends.
func (s *KV) RemoveGroup(ctx context.Context, group string, dry bool) (servers []string, err error) {
	defs, serving, err := s.groupsAndServers(ctx)
	if err != nil {
		return nil, err
	}
	def, ok := defs[group]
	if !ok {
		return nil, ErrUnknown
	}
	if nodes := serving[group]; len(nodes) > 0 {
		return nodes, ErrAlive
	}
	fields := map[string]json.RawMessage{}
	if err := Decode("group."+group, def.Revision, def.Data, &fields); err != nil {
		return nil, err
	}
	if dry || string(fields["removed"]) == "true" {
		return nil, nil
	}
	fields["removed"] = json.RawMessage("true")
	_, err = s.put(ctx, "group."+group, def.Revision, fields)
	return nil, err
}

// ConfirmGroup writes a group's definition as it is, and reports whether it has been removed. The answer is no stale
// read: the write went through on the revision that was read.
func (s *KV) ConfirmGroup(ctx context.Context, group string) (removed bool, err error) {
	rev, data, err := s.get(ctx, "group."+group)
	if err != nil {
		return false, err
	}
	var rec groupRecord
	if err := Decode("group."+group, rev, data, &rec); err != nil {
		return false, err
	}
	if rec.Removed {
		return true, nil
	}
	_, err = s.put(ctx, "group."+group, rev, json.RawMessage(data))
	return false, err
}
