package api

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"testing"
)

// fakeMembership knows the node n2 and nothing else, and remembers what was removed.
type fakeMembership struct{ removed []string }

func (f *fakeMembership) Members(context.Context) (*NodeList, error) {
	return &NodeList{Nodes: []Member{{Name: "n2"}}}, nil
}

func (f *fakeMembership) RemoveNode(_ context.Context, name string, dryRun bool) (*NodeRemoval, error) {
	switch name {
	case "alive":
		return nil, Mark(ErrRefused, "node alive is alive")
	case "n2":
	default:
		return nil, Mark(ErrNotFound, "the cluster knows no node "+name)
	}
	if !dryRun {
		f.removed = append(f.removed, name)
	}
	return &NodeRemoval{Name: name, DryRun: dryRun}, nil
}

func (f *fakeMembership) GroupList(context.Context) (*GroupList, error) { return &GroupList{}, nil }

func (f *fakeMembership) RemoveGroup(context.Context, string, bool) (*GroupRemoval, error) {
	return nil, Mark(ErrNotYet, "the node is starting")
}

func (f *fakeMembership) TopicList(context.Context) (*TopicList, error) {
	return nil, errors.New("disk on fire")
}

func (f *fakeMembership) RemoveTopic(_ context.Context, name string, dryRun bool) (*TopicRemoval, error) {
	if !dryRun {
		f.removed = append(f.removed, name)
	}
	return &TopicRemoval{Name: name, DryRun: dryRun, Removed: !dryRun}, nil
}

func serveMembers(t *testing.T, m Membership, token string) (addr, socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "agent.sock")
	s, err := New(Options{Listen: "127.0.0.1:0", Socket: socket, Source: fakeSource{}, Membership: m, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, s)
	return s.Addr(), socket
}

func TestMembershipAnswersAndRefusalsComeThrough(t *testing.T) {
	f := &fakeMembership{}
	_, socket := serveMembers(t, f, "")
	c := NewClient(socket)
	if l, err := c.Nodes(t.Context()); err != nil || l.Nodes[0].Name != "n2" {
		t.Errorf("nodes: %+v, %v", l, err)
	}
	if _, err := c.RemoveNode(t.Context(), "alive", false); !errors.Is(err, ErrRefused) ||
		err.Error() != "refused: node alive is alive" {
		t.Errorf("a live node: %v", err)
	}
	if _, err := c.RemoveNode(t.Context(), "n/9", false); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown node: %v", err)
	}
	if r, err := c.RemoveTopic(t.Context(), "events", true); err != nil || r.Removed || len(f.removed) > 0 {
		t.Errorf("a dry run of a topic's removal: %+v, %v; removed %v", r, err, f.removed)
	}
	if _, err := c.RemoveGroup(t.Context(), "g", false); !errors.Is(err, ErrNotYet) {
		t.Errorf("a starting node: %v", err)
	}
	if _, err := c.Topics(t.Context()); err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrNotYet) {
		t.Errorf("a failure: %v", err)
	}
	if r, err := c.RemoveNode(t.Context(), "n2", true); err != nil || !r.DryRun || len(f.removed) > 0 {
		t.Errorf("a dry run: %+v, %v; removed %v", r, err, f.removed)
	}
	if _, err := c.RemoveNode(t.Context(), "n2", false); err != nil || len(f.removed) != 1 {
		t.Errorf("%v; removed %v", err, f.removed)
	}
}

func TestChangesNeedTheSocketOrAToken(t *testing.T) {
	f := &fakeMembership{}
	addr, _ := serveMembers(t, f, "")
	if _, err := NewClient(addr).Nodes(t.Context()); err != nil {
		t.Errorf("looking: %v", err)
	}
	if _, err := NewClient(addr).RemoveNode(t.Context(), "n2", false); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("changing on a port without a token: %v", err)
	}
	if _, err := NewClient(addr).RemoveTopic(t.Context(), "events", false); !errors.Is(err, ErrNotAllowed) ||
		len(f.removed) > 0 {
		t.Errorf("removing a topic on a port without a token: %v, removed %v", err, f.removed)
	}
	const token = "0123456789abcdef0123456789abcdef"
	addr, socket := serveMembers(t, f, token)
	if _, err := NewClient(addr).RemoveNode(t.Context(), "n2", false); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("without the token: %v", err)
	}
	if len(f.removed) > 0 {
		t.Fatalf("removed %v", f.removed)
	}
	for _, c := range []*Client{NewClient(socket), NewClientWith(addr, ClientOptions{Token: token})} {
		if _, err := c.RemoveNode(t.Context(), "n2", false); err != nil {
			t.Errorf("%s: %v", c.Target(), err)
		}
	}
	resp, err := http.Get("http://" + addr + "/v1/nodes/n2/remove") // a link cannot remove a node
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusOK || len(f.removed) != 2 {
		t.Errorf("GET: %s, removed %v", resp.Status, f.removed)
	}
}
