package testcluster

import (
	"bytes"
	"encoding/json"
)

// letter is what the test looks at of a dead letter.
type letter struct {
	Seq      uint64              `json:"seq"`
	Reason   string              `json:"reason"`
	Error    string              `json:"error"`
	Attempts int                 `json:"attempts"`
	Node     string              `json:"node"`
	Key      string              `json:"key"`
	Headers  map[string][]string `json:"headers"`
}

// letters reads a group's dead letters, by message id.
func (c *Cluster) letters(group string) map[string]letter {
	c.t.Helper()
	out, err := c.CLI("dlq", "export", group)
	if err != nil {
		c.t.Fatal(err)
	}
	byID := map[string]letter{}
	for line := range bytes.Lines(out) {
		var l letter
		if err := json.Unmarshal(line, &l); err != nil {
			c.t.Fatal(err)
		}
		id := l.Headers["Nats-Msg-Id"][0]
		if _, twice := byID[id]; twice {
			c.t.Errorf("%s: %s is twice among the dead letters", group, id)
		}
		byID[id] = l
	}
	return byID
}
