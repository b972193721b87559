package tutorial

import (
	"strings"
	"testing"
)

// TestWhereNothingCanBeWrittenTheHintNamesAnotherPlace: the first hour of somebody who begins in the wrong directory.
func TestWhereNothingCanBeWrittenTheHintNamesAnotherPlace(t *testing.T) {
	r := newReader(t)
	for command, by := range map[string]string{
		"leasehold agent --dev":   "a directory that you may write to",
		"leasehold dev":           "--dir",
		"leasehold init --single": "--out",
		"leasehold init --cluster-name x --nodes a=h1,b=h2,c=h3 --out /site":                     "--out",
		"HOME=/root/none XDG_CONFIG_HOME=/none leasehold context add x --addr 127.0.0.1:1":       "XDG_CONFIG_HOME",
		"HOME=/root/none XDG_CONFIG_HOME=/none leasehold context add x --addr 127.0.0.1:1 --use": "XDG_CONFIG_HOME",
	} {
		out, err := r.shell("cd / && " + command).CombinedOutput()
		if text := string(out); err == nil || !strings.Contains(text, "Next: change to") || !strings.Contains(text, by) {
			t.Errorf("%s: %v\n%s", command, err, text)
		}
	}
}

// TestATakenPortIsNamedWithTheFlagThatMovesIt: agent --dev has no flags of ports itself.
func TestATakenPortIsNamedWithTheFlagThatMovesIt(t *testing.T) {
	r := newReader(t)
	r.follow("taken", []step{
		{command: "mkdir other && cd other && leasehold dev --nodes 1 --detach", output: []string{"…", "All ready…", "…"}},
		{command: "leasehold agent --dev", output: []string{"Error: port of node n1: … 127.0.0.1:4222: …",
			"Next: free it, or choose other ports with leasehold dev --nodes 1 --nats-port"}},
		{command: "leasehold dev --nodes 1 --nats-port 4322 --http-port 8322 --detach",
			output: []string{"…", "All ready…", "…"}},
		{command: "leasehold dev down", output: []string{"stopped n1"}},
		{terminal: "agent", command: "leasehold agent --dev",
			output: []string{"…", "Ready: one node, NATS on 127.0.0.1:4322, HTTP on 127.0.0.1:8322, …"}},
		{command: "leasehold status --until-idle", output: []string{"…", "OK: …", "…"}},
		{terminal: "agent", command: stop, output: []string{"…"}},
		{command: "cd other && leasehold dev down", output: []string{"stopped n1"}},
	})
}
