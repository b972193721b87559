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

// AttachKV returns the store on a bucket that may not be there yet, to read from.
func AttachKV(nc *nats.Conn) (*KV, error) {
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
	obs, err := s.Read(ctx, k)
	switch {
	case err != nil:
		return err
	case obs.Invalid != "":
		return errors.New(obs.Invalid)
	case obs.Session == nil:
		return ErrUnknown
	case obs.Session.State == lease.Live:
		return ErrAlive
	case obs.Session.State == lease.Ended:
		return nil
	}
	rec := *obs.Session
	rec.State, rec.Nonce = lease.Ended, ""
	rev, err := s.Write(ctx, lease.Write{Key: k, Revision: obs.Revision, Session: &rec})
	if err != nil {
		return err
	}
	s.Announce(lease.Observed{Key: k, Revision: rev, Session: &rec})
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

// definitionsAndServers reads the definitions of a kind, and who lists which groups in a live session. One replica answers
// for both, so whoever is seen to have confirmed a definition is seen to be live as well.
func (s *KV) definitionsAndServers(ctx context.Context, kind string) (defs map[string]Definition, servers map[string][]string, err error) {
	defs, servers = map[string]Definition{}, map[string][]string{}
	err = s.lastMessages(ctx, []string{subjects + kind + ".*", subjects + "session.*"}, func(m *jetstream.RawStreamMsg) error {
		if len(m.Data) == 0 || m.Header.Get("KV-Operation") != "" {
			return nil
		}
		if name, ok := strings.CutPrefix(m.Subject, subjects+kind+"."); ok {
			defs[name] = Definition{Name: name, Revision: m.Sequence, Data: m.Data}
			return nil
		}
		k, _ := parseKey(strings.TrimPrefix(m.Subject, subjects))
		obs, err := decode(k, m.Sequence, m.Data)
		if err != nil { // it may be that of a node which serves any group
			return err
		}
		if rec := obs.Session; rec != nil && rec.State == lease.Live {
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
// A node that starts with the group confirms the definition once its session is live (Confirm), by a write. If it
// comes first, the compare-and-set here is refused, and the next try sees its session. If the removal comes first, the
// node finds it and ends.
func (s *KV) RemoveGroup(ctx context.Context, group string, dry bool) (servers []string, err error) {
	return s.remove(ctx, removal{kind: "group", name: group, servedBy: group}, dry)
}

// RemoveTopic does the same for a topic, whose nodes list the group of its chores. The definition stays here too: a stream
// that is deleted late would otherwise be that of the next topic of this name.
func (s *KV) RemoveTopic(ctx context.Context, topic, chores string, dry bool) (servers []string, err error) {
	return s.remove(ctx, removal{kind: "topic", name: topic, servedBy: chores}, dry)
}

// removal is a definition to be marked, and the group that those who need it list.
type removal struct{ kind, name, servedBy string }

func (s *KV) remove(ctx context.Context, r removal, dry bool) (servers []string, err error) {
	defs, serving, err := s.definitionsAndServers(ctx, r.kind)
	if err != nil {
		return nil, err
	}
	def, ok := defs[r.name]
	if !ok {
		return nil, ErrUnknown
	}
	if nodes := serving[r.servedBy]; len(nodes) > 0 {
		return nodes, ErrAlive
	}
	key, fields := r.kind+"."+r.name, removable{}
	if err := Decode(key, def.Revision, def.Data, &fields); err != nil {
		return nil, err
	}
	if dry || fields.removed() {
		return nil, nil
	}
	fields["removed"] = json.RawMessage("true")
	_, err = s.put(ctx, key, def.Revision, fields)
	return nil, err
}

// removable are the fields of a definition of a group or a topic, most of them not of this package.
type removable map[string]json.RawMessage

func (r removable) removed() bool { return string(r["removed"]) == "true" }

// Valid says what is missing: every group names its topic, and every topic its subject.
func (r removable) Valid() error {
	if len(r["topic"]) == 0 && len(r["subject"]) == 0 {
		return errors.New("it names no topic and no subject")
	}
	return nil
}

// Confirm writes the definition of a group or a topic as it is, and reports whether it has been removed. The answer is no
// stale read: the write went through on the revision that was read.
func (s *KV) Confirm(ctx context.Context, key string) (removed bool, err error) {
	rev, data, err := s.get(ctx, key)
	if err != nil {
		return false, err
	}
	fields := removable{}
	if err := Decode(key, rev, data, &fields); err != nil {
		return false, err
	}
	if fields.removed() {
		return true, nil
	}
	_, err = s.put(ctx, key, rev, json.RawMessage(data))
	return false, err
}
