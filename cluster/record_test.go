package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"

	"leasehold/cluster/lease"
	"leasehold/server/servertest"
)

// good is what this program stores under a key of each kind.
var good = map[string]string{
	"session.n1":          storedRecords[0].data,
	"lease.billing.00001": `{"v":1,"owner":"n1","boot":3,"epoch":41,"checkpoint":1007,"attempt":2,"successor":"n2"}`,
	"control.billing": `{"v":1,"last_id":2,"open":[{"id":1,"kind":"pause","reason":"x"},` +
		`{"id":2,"kind":"seek","seq":5}]}`,
}

// Each is a change to a good record that no node makes.
var spoils = map[string]map[string]any{
	"session.n1": {
		"v": 2, "node": "n2", "boot": 0, "state": "LIVE", "nonce": "", "ttl_ns": 0, "weight": 0,
	},
	"lease.billing.00001": {"v": 0, "owner": "", "boot": 0, "epoch": 0, "attempt": -1, "checkpoint": -1},
	"control.billing":     {"v": "1", "last_id": 1, "open": []any{map[string]any{"id": 1, "kind": "no such"}}},
}

// What is not a record of its key is refused, with its revision to build on; every field that is always written is
// missed, and what stands around or after a record is not passed over.
func TestOnlyRecordsAreTakenForRecords(t *testing.T) {
	for name, data := range good {
		key, _ := parseKey(name)
		if obs, err := decode(key, 7, []byte(data)); err != nil || obs.Invalid != "" {
			t.Fatalf("%s: %v", data, err)
		}
		grown := strings.TrimSuffix(data, "}") + `,"added_by_a_later_release":[1]}`
		if _, err := decode(key, 7, []byte(grown)); err != nil {
			t.Errorf("a field of a later release: %v", err)
		}
		bad := []string{pubAck, traceEvent, data + data, data + " x", "[" + data + "]", "null", "{}", `"x"`, "x", "\x00",
			data[:len(data)-1]}
		fields := map[string]any{}
		if err := json.Unmarshal([]byte(data), &fields); err != nil {
			t.Fatal(err)
		}
		always := map[string][]string{"session.n1": sessionFields, "lease.billing.00001": leaseFields,
			"control.billing": commandsFields}[name]
		for _, f := range always {
			bad = append(bad, with(t, fields, f, nil))
		}
		for f, value := range spoils[name] {
			bad = append(bad, with(t, fields, f, value))
		}
		for _, b := range bad {
			obs, err := decode(key, 7, []byte(b))
			if !errors.Is(err, ErrNotARecord) || !strings.Contains(obs.Invalid, name) || obs.Revision != 7 {
				t.Errorf("%s under %s decodes as %+v: %v", b, name, obs, err)
			}
		}
	}
}

// with is the object with one field changed, or left out.
func with(t *testing.T, fields map[string]any, field string, value any) string {
	t.Helper()
	changed := maps.Clone(fields)
	if changed[field] = value; value == nil {
		delete(changed, field)
	}
	data, err := json.Marshal(changed)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A record that is not one does not hide the others, and its revision is there to be written over.
func invalidRecordCanBeBuiltOn(t *testing.T, ctx context.Context, b backend) {
	if b.foreign == nil {
		return
	}
	k := lease.SessionKey("forged")
	rev := mustWrite(t, ctx, b, lease.Write{Key: k, Session: session("forged", 3)})
	b.foreign(t, k.String(), traceEvent)
	obs := readDone(t, ctx, b, k, rev+1)
	if obs.Session != nil || obs.Invalid == "" {
		t.Fatalf("a trace event reads as %+v", obs)
	}
	servertest.Eventually(t, storeLimit, func() error {
		observed, err := b.Sessions(ctx)
		for _, s := range observed {
			if s.Key == k && s.Revision == obs.Revision && s.Session == nil && s.Invalid == obs.Invalid {
				return nil
			}
		}
		return errors.Join(err, errors.New("the invalid record is not among the sessions"))
	})
	_, err := b.Write(ctx, lease.Write{Key: k, Revision: rev, Session: session("forged", 3)})
	if !errors.Is(err, ErrConflict) {
		t.Errorf("a write over it on an older revision ended with %v", err)
	}
	mustWrite(t, ctx, b, lease.Write{Key: k, Revision: obs.Revision, Session: session("forged", 4)})
}
