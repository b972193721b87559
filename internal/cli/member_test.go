package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"leasehold/internal/api"
)

// fakeMembers is a cluster of n1, which is well, and n2, which is dead, and counts what was removed for good.
type fakeMembers struct {
	fakeSource
	removed []string
}

func (f *fakeMembers) Members(context.Context) (*api.NodeList, error) {
	return &api.NodeList{Voters: api.Voters{Count: 3, Quorum: 2, Alive: 2}, Nodes: []api.Member{
		{Name: "n1", State: api.NodeLive, Peer: true, Leader: true, Current: true, Server: "n1-ab12", Groups: []string{}},
		{Name: "n2", State: "buried", Peer: true, Server: "n2-cd34", Note: "down, still a voter", Groups: []string{}},
	}, Warnings: []string{}}, nil
}

func (f *fakeMembers) RemoveNode(_ context.Context, name string, dryRun bool) (*api.NodeRemoval, error) {
	switch name {
	case "n1":
		return nil, api.Mark(api.ErrRefused, "node n1 is alive at 10.0.0.1:6222")
	case "n2":
	default:
		return nil, api.Mark(api.ErrNotFound, "the cluster knows no node "+name)
	}
	if !dryRun {
		f.removed = append(f.removed, name)
	}
	return &api.NodeRemoval{
		Name: name, DryRun: dryRun, Removed: []string{"n2-cd34"}, Before: api.Voters{Count: 3, Quorum: 2, Alive: 2},
		After: api.Voters{Count: 2, Quorum: 2, Alive: 2}, Warnings: []string{"none may fail"},
	}, nil
}

func (f *fakeMembers) GroupList(context.Context) (*api.GroupList, error) {
	return &api.GroupList{Groups: []api.GroupInfo{{Name: "audit", Topic: "orders", State: "idle", Nodes: []string{}}}}, nil
}

func (f *fakeMembers) RemoveGroup(_ context.Context, name string, dryRun bool) (*api.GroupRemoval, error) {
	if name != "audit" {
		return nil, api.Mark(api.ErrRefused, `group "`+name+`" is served by n1`)
	}
	if !dryRun {
		f.removed = append(f.removed, name)
	}
	return &api.GroupRemoval{Name: name, DryRun: dryRun, Topic: "orders", Done: 17, Unread: 4, Released: !dryRun}, nil
}

func (f *fakeMembers) TopicList(context.Context) (*api.TopicList, error) {
	return &api.TopicList{Topics: []api.TopicDetail{{Topic: api.Topic{Name: "orders", Partitions: 8}, Replicas: []string{"n1"}}}}, nil
}

func TestNodeListShowsWhoVotesAndWhatToDo(t *testing.T) {
	addr := agent(t, &fakeMembers{})
	run(t, "node", "list", "--addr", addr).want(t, exitOK, "leader", "n2-cd34", "3 voters, 2 alive, 2 needed", "warning: n2 n2-cd34: down, still a voter")
	run(t, "group", "list", "--addr", addr).want(t, exitOK, "audit", "idle", "unknown")
	run(t, "topic", "list", "-o", "wide", "--addr", addr).want(t, exitOK, "orders", "n1")
}

func TestNothingIsRemovedWithoutAYes(t *testing.T) {
	f := &fakeMembers{}
	addr := agent(t, f)
	run(t, "node", "remove", "n2", "--dry-run", "--addr", addr).want(t, exitOK, "before: 3 voters, 2 alive, 2 needed", "after:  2 voters", "none may fail")
	run(t, "node", "remove", "n2", "--addr", addr).want(t, exitUsage, "--yes")
	run(t, "node", "remove", "n2", "-o", "json", "--addr", addr).want(t, exitUsage, "--yes")
	run(t, "group", "remove", "audit", "--addr", addr).want(t, exitUsage, "sequence 17", "4 messages", "--yes")
	if len(f.removed) > 0 {
		t.Fatalf("removed %v", f.removed)
	}
	run(t, "node", "remove", "n2", "--yes", "--addr", addr).want(t, exitOK, "removed; now 2 voters")
	run(t, "group", "remove", "audit", "--yes", "--addr", addr).want(t, exitOK, "not held back")
	if strings.Join(f.removed, " ") != "n2 audit" {
		t.Errorf("removed %v", f.removed)
	}
}

func TestRefusedRemovalsHaveTheirCodes(t *testing.T) {
	addr := agent(t, &fakeMembers{})
	run(t, "node", "remove", "n1", "--yes", "--addr", addr).want(t, exitUnsafe, "alive at 10.0.0.1:6222", "Next: ")
	run(t, "node", "remove", "n9", "--yes", "--addr", addr).want(t, exitNotFound, "knows no node n9")
	run(t, "group", "remove", "billing", "--yes", "--addr", addr).want(t, exitUnsafe, "served by n1")
	run(t, "node", "remove", "--addr", addr).want(t, exitUsage)
}

func TestWatchPrintsOneDocumentALineUntilItIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	source := &fakeSource{status: healthy(), onLook: func(looks int, _ *api.Status) {
		if looks == 3 {
			cancel()
		}
	}}
	var out, errs bytes.Buffer
	app := &App{Run: fakeNode, In: strings.NewReader(""), Out: &out, Err: &errs}
	if code := app.Main(ctx, []string{"status", "--watch", "-o", "json", "--addr", agent(t, source)}); code != exitOK {
		t.Errorf("exit code %d: %s", code, &errs)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) < 2 {
		t.Errorf("%d looks: %s", len(lines), &out)
	}
	for _, line := range lines {
		var s api.Status
		if err := json.Unmarshal([]byte(line), &s); err != nil || s.Cluster != "plant-7" {
			t.Errorf("%q: %v", line, err)
		}
	}
	run(t, "status", "--watch", "--until-idle").want(t, exitUsage)
}
