package server_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"leasehold/server/servertest"
)

// mostTaken is more than a node may take of a client that reads nothing: what sockets hold, and a little.
const mostTaken = 64 << 20

// TestClientThatReadsNothingIsReadNoMore: answers that nobody reads must not pile up. Once they are read, none is
// missing.
func TestClientThatReadsNothingIsReadNoMore(t *testing.T) {
	t.Parallel()
	o := servertest.SingleOptions(t)
	o.PublishSubjects, o.Operations = []string{"orders.*"}, 1<<30
	n := servertest.Start(t, o)
	n.WaitReady(t)
	for name, c := range map[string]struct{ line, answer string }{
		"pings":              {"PING\r\n", "PONG"},
		"without permission": {"PUB nobodys.topic 0\r\n\r\n", "-ERR"},
		"refused":            {"PUB orders.* 0\r\n\r\n", "-ERR"},
		"refused, answered":  {"PUB orders.* _INBOX.a 0\r\n\r\n", "MSG"},
		"subscriptions":      {"SUB orders.k 2\r\n", "-ERR"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", n.ClientAddr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "CONNECT {\"verbose\":false}\r\nSUB _INBOX.a 1\r\n")
			whole, rest := pour(t, conn, c.line)
			go fmt.Fprintf(conn, "%sUNSUB\r\n", rest) // Which is an error, and the end.
			got, in := 0, bufio.NewReader(conn)
			for line, err := in.ReadString('\n'); !errors.Is(err, io.EOF); line, err = in.ReadString('\n') {
				if err != nil {
					t.Fatalf("after %d answers: %v", got, err)
				}
				if strings.HasPrefix(line, c.answer) && !strings.Contains(line, "Parser Error") {
					got++
				}
			}
			if got != whole {
				t.Errorf("%d answers to %d lines", got, whole)
			}
		})
	}
}

// pour sends a line again and again until nothing is taken any more. It returns how many lines were begun, and what is
// left of the last.
func pour(t *testing.T, conn net.Conn, line string) (lines int, rest string) {
	t.Helper()
	chunk, sent := []byte(strings.Repeat(line, 1000)), 0
	for {
		_ = conn.SetWriteDeadline(time.Now().Add(2 * time.Second)) // Fails only if it is closed.
		n, err := conn.Write(chunk)
		if sent += n; sent > mostTaken {
			t.Fatalf("%d bytes were taken and no answer was read", sent)
		}
		if err == nil {
			continue
		}
		_ = conn.SetWriteDeadline(time.Time{})
		lines = (sent + len(line) - 1) / len(line)
		return lines, line[len(line)-(lines*len(line)-sent):]
	}
}

// TestAnswersToManySubscriptionsEndAClientThatReadsNothing: one answer can be a thousand messages, of which the node
// holds a few MiB at most. Another client of the same user goes on.
func TestAnswersToManySubscriptionsEndAClientThatReadsNothing(t *testing.T) {
	t.Parallel()
	o := servertest.SingleOptions(t)
	o.PublishSubjects = []string{"orders.*"}
	n := servertest.Start(t, o)
	n.WaitReady(t)
	stream(t, n.Server, "orders", "orders.*")
	conn, err := net.Dial("tcp", n.ClientAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "CONNECT {\"verbose\":false}\r\n")
	for i := range 1000 {
		fmt.Fprintf(conn, "SUB _INBOX.> %d\r\n", i)
	}
	go io.WriteString(conn, strings.Repeat("PUB orders.k _INBOX.a 0\r\n\r\n", 4000)) // Until the node ends the connection.
	servertest.Eventually(t, 30*time.Second, func() error {
		for _, r := range n.Refused() {
			if r.User == "anonymous" && r.Reason == "slow_consumer" {
				return nil
			}
		}
		return fmt.Errorf("the client was not ended: %v", n.Refused())
	})
	other := &person{name: "other", addr: n.ClientAddr()}
	if err := other.request("orders.k").try(t); err != nil {
		t.Errorf("another client: %v", err)
	}
}

// TestSilentConnectionsMakeRoomForClients: connections that do not log in keep nobody out, and push out no client that
// has.
func TestSilentConnectionsMakeRoomForClients(t *testing.T) {
	t.Parallel()
	o := servertest.SingleOptions(t)
	o.PublishSubjects, o.MaxConnections = []string{"orders.*"}, 20
	n := servertest.Start(t, o)
	n.WaitReady(t)
	stream(t, n.Server, "orders", "orders.*")
	before := &person{name: "before", addr: n.ClientAddr()}
	if err := before.request("orders.k").try(t); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		conn, err := net.Dial("tcp", n.ClientAddr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	after := &person{name: "after", addr: n.ClientAddr()}
	for _, p := range []*person{before, after} {
		if err := p.request("orders.k").try(t); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	}
}
