package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"leasehold/cluster/lease"
)

// ErrNotARecord: stored data is not a valid record of its key. Much of what a broker publishes by itself, such as an
// acknowledgement or a trace event, is a JSON object too and would decode into zero values.
var ErrNotARecord = errors.New("it is not a valid record")

// Fields that every node has always written, whatever their values.
var (
	sessionFields = []string{
		"v", "node", "boot", "state", "nonce", "dir_id", "kernel_boot", "lock_dev", "lock_ino", "ttl_ns", "groups", "weight",
		"leaving", "server_id", "address", "release",
	}
	leaseFields    = []string{"v", "owner", "boot", "epoch", "checkpoint", "attempt"}
	commandsFields = []string{"v", "last_id", "open"}
)

// decode decodes a stored record. No data at a revision above 0 is a delete marker: the record is gone, and a node that
// writes it again names the marker's revision. Of data that is not a valid record only the revision counts, and the
// error says what is wrong.
func decode(k lease.Key, rev uint64, data []byte) (lease.Observed, error) {
	obs := lease.Observed{Key: k, Revision: rev}
	if len(data) == 0 {
		return obs, nil
	}
	err := decodeInto(&obs, data)
	if err == nil {
		return obs, nil
	}
	err = notARecord(k.String(), rev, err)
	return lease.Observed{Key: k, Revision: rev, Invalid: err.Error()}, err
}

func notARecord(key string, rev uint64, err error) error {
	return fmt.Errorf("key %s at revision %d of the bucket %s: %w: %w", key, rev, bucket, ErrNotARecord, err)
}

func decodeInto(obs *lease.Observed, data []byte) error {
	switch k := obs.Key; k {
	case lease.SessionKey(k.Node):
		obs.Session = &lease.Session{}
		if err := decodeObject(data, obs.Session, sessionFields); err != nil {
			return err
		}
	case lease.CommandsKey(k.Group):
		obs.Commands = &lease.Commands{}
		if err := decodeObject(data, obs.Commands, commandsFields); err != nil {
			return err
		}
	default:
		obs.Lease = &lease.Lease{}
		if err := decodeObject(data, obs.Lease, leaseFields); err != nil {
			return err
		}
	}
	return valid(*obs)
}

// valid returns why no node can have written a record, or nil.
func valid(obs lease.Observed) error {
	switch {
	case obs.Session != nil:
		return obs.Session.Valid(obs.Key)
	case obs.Commands != nil:
		return obs.Commands.Valid()
	case obs.Lease != nil:
		return obs.Lease.Valid()
	}
	return nil
}

// decodeObject decodes one JSON object that has all of these fields, and nothing after it. It ignores unknown fields: a
// later release adds fields without a new version.
func decodeObject(data []byte, value any, fields []string) error {
	var have map[string]json.RawMessage
	if len(data) == 0 {
		return errors.New("it was deleted")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&have); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is data after the JSON object")
	}
	if have == nil {
		return errors.New("it is null")
	}
	for _, f := range fields {
		if raw := have[f]; raw == nil || string(raw) == "null" && f != "groups" && f != "open" { // an empty list may be null
			return fmt.Errorf("it has no field %q", f)
		}
	}
	return json.Unmarshal(data, value)
}

// version is the field that every record has.
type version struct {
	Version int `json:"v"`
}

// Valider is a definition that knows what it needs beside its version.
type Valider interface{ Valid() error }

// Decode decodes a definition or another record that is not of the lease protocol. It is refused if it is not one JSON
// object with the version 1, or if value is a Valider and finds something amiss.
func Decode(key string, rev uint64, data []byte, value any) error {
	var v version
	err := decodeObject(data, &v, []string{"v"})
	if err == nil && v.Version != lease.RecordVersion {
		err = fmt.Errorf("v is %d, not %d", v.Version, lease.RecordVersion)
	}
	if err == nil {
		err = json.Unmarshal(data, value)
	}
	if vr, ok := value.(Valider); ok && err == nil {
		err = vr.Valid()
	}
	if err != nil {
		return notARecord(key, rev, err)
	}
	return nil
}
