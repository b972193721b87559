package testcluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"leasehold/internal/api"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Command runs a command of the leasehold binary against the node's socket.
func (n *Node) Command(args ...string) (code int, output string) {
	n.Cluster.T.Helper()
	args = append(args, "--addr", filepath.Join(n.Host.DataDir, "leasehold.sock"))
	cmd := exec.Command(LeaseholdBinary(n.Cluster.T), args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		n.Cluster.T.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// Ask runs a command with -o json and decodes what it prints.
func (n *Node) Ask(into any, args ...string) error {
	code, out := n.Command(append(args, "-o", "json")...)
	if code != 0 {
		return errors.New(out)
	}
	return json.Unmarshal([]byte(out), into)
}

// Want runs a command and checks its exit code, and that its output has each part.
func (n *Node) Want(code int, parts []string, args ...string) {
	n.Cluster.T.Helper()
	if err := n.check(code, parts, args...); err != nil {
		n.Cluster.T.Error(err)
	}
}

func (n *Node) check(code int, parts []string, args ...string) error {
	got, out := n.Command(args...)
	if got != code {
		return fmt.Errorf("%v on %s: exit code %d, want %d:\n%s", args, n.Name, got, code, out)
	}
	for _, p := range parts {
		if !strings.Contains(out, p) {
			return fmt.Errorf("%v on %s: no %q in:\n%s", args, n.Name, p, out)
		}
	}
	return nil
}

// WaitOutput waits until a command ends so.
func (n *Node) WaitOutput(limit time.Duration, code int, parts []string, args ...string) {
	n.Cluster.T.Helper()
	Eventually(n.Cluster.T, limit, func() error { return n.check(code, parts, args...) })
}

// Topic asks a node about a topic.
func (n *Node) Topic(name string) (api.TopicDetail, error) {
	var list api.TopicList
	if err := n.Ask(&list, "topic", "list"); err != nil {
		return api.TopicDetail{}, err
	}
	for _, t := range list.Topics {
		if t.Name == name {
			return t, nil
		}
	}
	return api.TopicDetail{}, errors.New("no such topic")
}

// WaitNotReady waits until a node that runs is not ready for a reason that has the text.
func (n *Node) WaitNotReady(limit time.Duration, text string) {
	n.Cluster.T.Helper()
	Eventually(n.Cluster.T, limit, func() error {
		switch err := n.Ready(); {
		case err == nil:
			return fmt.Errorf("%s is ready, want %q", n.Name, text)
		case !strings.Contains(err.Error(), text):
			return fmt.Errorf("readiness of %s: %w, want %q", n.Name, err, text)
		}
		return nil
	})
}

// Letter is what the test looks at of a dead letter.
type Letter struct {
	Seq      uint64              `json:"seq"`
	Reason   string              `json:"reason"`
	Error    string              `json:"error"`
	Attempts int                 `json:"attempts"`
	Node     string              `json:"node"`
	Key      string              `json:"key"`
	Headers  map[string][]string `json:"headers"`
}

// Letters reads a group's dead letters, by message id.
func (c *Cluster) Letters(group string) map[string]Letter {
	c.T.Helper()
	out, err := c.CLI("dlq", "export", group)
	if err != nil {
		c.T.Fatal(err)
	}
	byID := map[string]Letter{}
	for line := range bytes.Lines(out) {
		var l Letter
		if err := json.Unmarshal(line, &l); err != nil {
			c.T.Fatal(err)
		}
		id := l.Headers["Nats-Msg-Id"][0]
		if _, twice := byID[id]; twice {
			c.T.Errorf("%s: %s is twice among the dead letters", group, id)
		}
		byID[id] = l
	}
	return byID
}

// TopicLeader is the node that leads the topic's stream.
func (c *Cluster) TopicLeader() (string, error) {
	body, err := c.Running()[0].Get("/v1/topics")
	if err != nil {
		return "", err
	}
	var list struct {
		Topics []struct {
			Replicas []string `json:"replicas"` // The leader first.
		} `json:"topics"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return "", fmt.Errorf("topics: %w: %s", err, body)
	}
	if len(list.Topics) != 1 || len(list.Topics[0].Replicas) != 3 {
		return "", fmt.Errorf("not one topic with three copies: %s", body)
	}
	return list.Topics[0].Replicas[0], nil
}
