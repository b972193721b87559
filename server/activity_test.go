package server_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"leasehold/server"
	"leasehold/server/servertest"
)

// lines keeps a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) has(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		found := 0
		for _, part := range parts {
			if strings.Contains(line, part) {
				found++
			}
		}
		if found == len(parts) {
			return true
		}
	}
	return false
}

// A user is bounded on its node while another publishes on another node, and not by its own clients there.
func TestNodesTellEachOtherWhoPublishes(t *testing.T) {
	t.Parallel()
	options := servertest.ClusterOptions(t, 3)
	logs := make([]lines, 3)
	var nodes []*servertest.Node
	for i, o := range options {
		o.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: &logs[i]})
		nodes = append(nodes, servertest.Start(t, o))
	}
	for _, n := range nodes {
		n.WaitReady(t)
	}
	bounded := []string{"window of a user", "user=anonymous", "bounded_because_others_publish=true"}
	anonymous := func(n *servertest.Node) *nats.Conn {
		nc, err := nats.Connect("nats://" + n.ClientAddr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	first, third := anonymous(nodes[0]), anonymous(nodes[2])
	http, err := nodes[1].IngressConn(server.HTTPUser)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(http.Close)
	publish := func(conns ...*nats.Conn) {
		for _, nc := range conns {
			if err := nc.Publish("orders.a", []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	servertest.Eventually(t, servertest.ReadyLimit, func() error {
		publish(first, third)
		if !logs[1].has("window of a user", "user=@http", "bounded_because_others_publish=true") {
			return fmt.Errorf("n2 does not know who publishes on the others")
		}
		return nil
	})
	if logs[0].has(bounded...) || logs[2].has(bounded...) {
		t.Error("a user is bounded by its own clients on another node")
	}
	servertest.Eventually(t, servertest.ReadyLimit, func() error {
		publish(first, http)
		if !logs[0].has(bounded...) || !logs[2].has(bounded...) {
			return fmt.Errorf("n1 or n3 does not know who publishes on n2")
		}
		return nil
	})
}
