package ingress

import (
	"bufio"
	"encoding/json"
	"leasehold/server/ingress/wire"
	"strings"
	"testing"
	"time"

	broker "github.com/nats-io/nats-server/v2/server"
)

// What anybody is told who connects: what clients need, and nothing of the machine or of how the node was built.
func TestBeforeLoginLittleIsTold(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Version = "2.15.7-beta.1" })
	conn, err := r.dialRaw()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(hang))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var told map[string]any
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &told); err != nil {
		t.Fatal(err)
	}
	needed := map[string]bool{}
	for _, name := range []string{"server_id", "server_name", "version", "proto", "headers", "max_payload", "jetstream",
		"client_id", "auth_required", "tls_required", "tls_verify", "tls_available", "nonce"} {
		needed[name] = true
	}
	for name := range told {
		if !needed[name] {
			t.Errorf("%s: %v", name, told[name])
		}
	}
	if told["version"] != "2.15.0" || told["server_id"] != "n1" || told["server_name"] != "n1" {
		t.Error(line)
	}
	release := strings.Join(append(strings.SplitN(broker.VERSION, ".", 3)[:2], "0"), ".")
	for version, want := range map[string]string{broker.VERSION: release, "2": "2", "": ""} {
		if got := wire.Release(version); got != want {
			t.Errorf("%s: %s", version, got)
		}
	}
}
