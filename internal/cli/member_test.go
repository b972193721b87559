package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"leasehold/internal/api"
	"leasehold/internal/config"
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
	return &api.GroupList{Groups: []api.GroupInfo{
		{Name: "audit", Topic: "orders", State: "idle", Nodes: []string{}, DeadLetters: 3, DLQMaxBytes: 256 << 20},
		{Name: "gone", Topic: "orders", State: "removed", Nodes: []string{}, DeadLetters: -1},
	}}, nil
}

func (f *fakeMembers) RemoveGroup(_ context.Context, name string, dryRun bool) (*api.GroupRemoval, error) {
	if name != "audit" {
		return nil, api.Mark(api.ErrRefused, `group "`+name+`" is served by n1`)
	}
	if !dryRun {
		f.removed = append(f.removed, name)
	}
	return &api.GroupRemoval{Name: name, DryRun: dryRun, Topic: "orders", Done: 17, Unread: 4, Released: !dryRun,
		DeadLetters: 3, Freed: 1 << 28}, nil
}

func (f *fakeMembers) RemoveTopic(_ context.Context, name string, dryRun bool) (*api.TopicRemoval, error) {
	if name != "events" {
		return nil, api.Mark(api.ErrRefused, `topic "`+name+`" still has the groups audit: `+
			"`leasehold group remove audit` first")
	}
	if !dryRun {
		f.removed = append(f.removed, name)
	}
	return &api.TopicRemoval{Name: name, DryRun: dryRun, Messages: 21, Bytes: 2048, Freed: 1 << 30, Removed: !dryRun}, nil
}

func (f *fakeMembers) TopicList(context.Context) (*api.TopicList, error) {
	return &api.TopicList{MaxStore: 8 << 30, Reserved: 7 << 30, Topics: []api.TopicDetail{
		{Topic: api.Topic{Name: "events", Partitions: 8, Bytes: 5 << 20}, Replicas: []string{"n1"}, State: "unused",
			MaxBytes: 6 << 30},
		{Topic: api.Topic{Name: "orders", Partitions: 8, Bytes: 2 << 20}, Replicas: []string{"n1"}, State: "used",
			MaxBytes: 1 << 20, WantedBytes: 6 << 30, Nodes: []string{"n1", "n2"}},
	}}, nil
}

func TestNodeListShowsWhoVotesAndWhatToDo(t *testing.T) {
	addr := agent(t, &fakeMembers{})
	run(t, "node", "list", "--addr", addr).want(t, exitOK, "leader", "n2-cd34", "3 voters, 2 alive, 2 needed",
		"warning: n2 n2-cd34: down, still a voter")
	run(t, "group", "list", "--addr", addr).want(t, exitOK, "audit", "idle", "unknown", "3 of 256 MiB")
	run(t, "topic", "list", "-o", "wide", "--addr", addr).want(t, exitOK, "orders", "n1", "unused", "of 6.0 GiB",
		"(wants 6.0 GiB)", "7.0 GiB of max_store 8.0 GiB are reserved, 1.0 GiB are free")
}

func TestNothingIsRemovedWithoutAYes(t *testing.T) {
	f := &fakeMembers{}
	addr := agent(t, f)
	run(t, "node", "remove", "n2", "--dry-run", "--addr", addr).want(t, exitOK, "before: 3 voters, 2 alive, 2 needed",
		"after:  2 voters", "none may fail")
	run(t, "node", "remove", "n2", "--addr", addr).want(t, exitUsage, "--yes")
	run(t, "node", "remove", "n2", "-o", "json", "--addr", addr).want(t, exitUsage, "--yes")
	run(t, "group", "remove", "audit", "--addr", addr).want(t, exitUsage, "sequence 17", "4 messages", "--yes")
	run(t, "group", "remove", "audit", "--dry-run", "--addr", addr).want(t, exitOK, "its 3 dead letters are deleted",
		"leasehold dlq list audit")
	run(t, "topic", "remove", "events", "--dry-run", "--addr", addr).want(t, exitOK,
		"21 messages (2.0 KiB), which are deleted", "reserves 1.0 GiB")
	run(t, "topic", "remove", "events", "--addr", addr).want(t, exitUsage, "--yes")
	run(t, "topic", "remove", "events", "-o", "json", "--addr", addr).want(t, exitUsage, "--yes")
	if len(f.removed) > 0 {
		t.Fatalf("removed %v", f.removed)
	}
	run(t, "node", "remove", "n2", "--yes", "--addr", addr).want(t, exitOK, "removed; now 2 voters")
	run(t, "group", "remove", "audit", "--yes", "--addr", addr).want(t, exitOK, "not held back", "256 MiB of max_store")
	run(t, "topic", "remove", "events", "--yes", "--addr", addr).want(t, exitOK, "removed",
		"1.0 GiB of max_store are free again")
	if strings.Join(f.removed, " ") != "n2 audit events" {
		t.Errorf("removed %v", f.removed)
	}
}

func TestRefusedRemovalsHaveTheirCodes(t *testing.T) {
	addr := agent(t, &fakeMembers{})
	run(t, "node", "remove", "n1", "--yes", "--addr", addr).want(t, exitUnsafe, "alive at 10.0.0.1:6222", "Next: ")
	run(t, "node", "remove", "n9", "--yes", "--addr", addr).want(t, exitNotFound, "knows no node n9")
	run(t, "group", "remove", "billing", "--yes", "--addr", addr).want(t, exitUnsafe, "served by n1")
	run(t, "topic", "remove", "orders", "--yes", "--addr", addr).want(t, exitUnsafe, "has the groups audit",
		"leasehold group remove audit", "Next: ")
	run(t, "topic", "remove", "--addr", addr).want(t, exitUsage)
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

// With the agent of its data directory running, a config is compared with what is stored.
func TestValidateComparesSizesWithARunningAgent(t *testing.T) {
	for what, c := range map[string]struct {
		store, tables string
		want          []string
		not           string
	}{
		"all as it is": {"", "[[topic]]\nname = \"orders\"\npartitions = 8\n[[topic]]\nname = \"events\"\npartitions = 8\n",
			[]string{"group audit will be"}, "wants"},
		"a topic less": {"", "[[topic]]\nname = \"orders\"\npartitions = 8\n", []string{
			"! topic events will be in no live node's config and reserve 6.0 GiB of max_store: after the restart `leasehold " +
				"topic remove events`",
			"! group audit will be in no live node's config", "`leasehold group remove audit`"}, "topic orders will"},
		"a new topic of some size": {"", "[[topic]]\nname = \"scans\"\npartitions = 8\nmax_bytes = \"3GiB\"\n", []string{
			"! topic scans wants 3.0 GiB, 1.0 GiB of max_store 8.0 GiB is free (events 6.0 GiB, not in this config; orders " +
				"1.0 MiB, not in this config; " +
				"dead letters of audit 256 MiB): it gets what is free until there is room"}, "topic orders will"},
		"a raise": {"", "[[topic]]\nname = \"events\"\npartitions = 8\nmax_bytes = \"7168MiB\"\n[[topic]]\nname = " +
			"\"scans\"\npartitions = 8\n", []string{
			"topic scans wants 1.0 GiB, 0 B of max_store"}, "topic events wants"},
		"two raises": {"", "[[topic]]\nname = \"orders\"\npartitions = 8\nmax_bytes = \"2GiB\"\n",
			[]string{"topic orders wants 2.0 GiB", "it has 1.0 MiB and gets what is free"}, ""},
		"a size too small": {"", "[[topic]]\nname = \"orders\"\npartitions = 8\nmax_bytes = \"1MiB\"\n",
			[]string{"topic orders: 1.0 MiB is less than the 2.0 MiB that it holds"}, ""},
		"max_store lower": {"max_store = \"4GiB\"", "",
			[]string{"server.max_store: the streams may take 7.0 GiB together, max_store is 4.0 GiB"}, ""},
		"a removed group": {"", "[[topic]]\nname = \"orders\"\npartitions = 8\n[[group]]\nname = \"gone\"\ntopic = " +
			"\"orders\"\nhandler = { kind = \"log\" }\n",
			[]string{"group gone: it was removed, and its name is used up"}, ""},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			file := writeFile(t, filepath.Join(dir, "c.toml"),
				"[node]\nname = \"n1\"\ndata_dir = \"d\"\n[server]\nlisten = \"127.0.0.1:0\"\n"+c.store+
					"\n[http]\nlisten = \"127.0.0.1:0\"\n"+c.tables)
			if r := run(t, "config", "validate", file); strings.Contains(r.out, "leasehold group remove") {
				t.Errorf("without an agent:\n%s", r.out)
			}
			if err := os.MkdirAll(filepath.Join(dir, "d"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(agent(t, &fakeMembers{}), filepath.Join(dir, "d", config.SocketName)); err != nil {
				t.Fatal(err)
			}
			r := run(t, "config", "validate", file)
			r.want(t, exitOK, c.want...)
			if c.not != "" && strings.Contains(r.out, c.not) {
				t.Errorf("%q in:\n%s", c.not, r.out)
			}
			if r := run(t, "config", "validate", "--offline", file); strings.Contains(r.out, "events") &&
				!strings.Contains(c.tables, "events") {
				t.Errorf("offline:\n%s", r.out)
			}
		})
	}
}
