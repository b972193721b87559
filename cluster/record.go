package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"leasehold/cluster/lease"
)

// ErrNotARecord is in the chain of the error about stored data that is not a record of its key. Much of what a broker
// publishes by itself, an acknowledgement or a trace event, is a JSON object too and would decode into zero values.
var ErrNotARecord = errors.New("it is not a valid record")

// Fields that every node has always written, whatever their values.
var (
	sessionFields = []string{
		"v", "node", "boot", "state", "nonce", "dir_id", "kernel_boot", "lock_dev", "lock_ino", "ttl_ns", "groups", "weight",
		"leaving", "server_id", "address", "release",
	}
	leaseFields    = []string{"v", "owner", "boot", "epoch", "checkpoint", "attempt"}
	requestsFields = []string{"v", "last_id", "open"}
)

// decode makes a record of what is stored. No data at a revision above 0 is a marker left by a deletion: the record is
// gone, and a node that writes it again names the marker's revision. Of data that is not a record only the revision is
// believed, and the error says what is wrong.
func decode(k lease.Key, rev uint64, data []byte) (lease.Saw, error) {
	saw := lease.Saw{Key: k, Revision: rev}
	if len(data) == 0 {
		return saw, nil
	}
	err := decodeInto(&saw, data)
	if err == nil {
		return saw, nil
	}
	err = notARecord(k.String(), rev, err)
	return lease.Saw{Key: k, Revision: rev, Invalid: err.Error()}, err
}

func notARecord(key string, rev uint64, err error) error {
	return fmt.Errorf("key %s at revision %d of the bucket %s: %w: %w", key, rev, bucket, ErrNotARecord, err)
}

func decodeInto(saw *lease.Saw, data []byte) error {
	switch k := saw.Key; k {
	case lease.SessionKey(k.Node):
		saw.Session = &lease.Session{}
		if err := decodeObject(data, saw.Session, sessionFields); err != nil {
			return err
		}
	case lease.RequestsKey(k.Group):
		saw.Requests = &lease.Requests{}
		if err := decodeObject(data, saw.Requests, requestsFields); err != nil {
			return err
		}
	default:
		saw.Lease = &lease.Lease{}
		if err := decodeObject(data, saw.Lease, leaseFields); err != nil {
			return err
		}
	}
	return valid(*saw)
}

// valid says why no node can have written what a record says.
func valid(saw lease.Saw) error {
	switch {
	case saw.Session != nil:
		return saw.Session.Valid(saw.Key)
	case saw.Requests != nil:
		return saw.Requests.Valid()
	case saw.Lease != nil:
		return saw.Lease.Valid()
	}
	return nil
}

// decodeObject decodes one JSON object, and nothing after it, that has all of these fields. Fields that this version
// does not know are left alone: they are how a later release adds to a record without a new version.
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

// version is what every definition has, whatever else is in it.
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
