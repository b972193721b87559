package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"leasehold/cluster/lease"
	"leasehold/server/servertest"
)

// sessionOf writes a node's session record over what is there.
func sessionOf(t *testing.T, ctx context.Context, s *KV, rec lease.Session) {
	t.Helper()
	obs, err := s.Read(ctx, lease.SessionKey(rec.Node))
	if err == nil {
		_, err = s.Write(ctx, lease.Write{Key: obs.Key, Revision: obs.Revision, Session: &rec})
	}
	if err != nil {
		t.Fatal(err)
	}
}

type definition struct {
	Version int    `json:"v"`
	Topic   string `json:"topic"`
	Done    uint64 `json:"done"`
	Removed bool   `json:"removed"`
}

func TestGroupIsRemovedOnlyWhenNobodyServesIt(t *testing.T) {
	s, _ := openKV(t, servertest.Single(t).Conn, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := s.RemoveGroup(ctx, "audit", false); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown group: %v", err)
	}
	const done = 1<<62 + 1 // A number that a float would not hold.
	var def definition
	if err := s.Define(ctx, "group.audit", definition{Version: 1, Topic: "orders", Done: done}, &def); err != nil {
		t.Fatal(err)
	}
	live := *session("n1", 3)
	live.Groups = []string{"audit", "billing"}
	sessionOf(t, ctx, s, live)
	if nodes, err := s.RemoveGroup(ctx, "audit", false); !errors.Is(err, ErrAlive) || fmt.Sprint(nodes) != "[n1]" {
		t.Errorf("a served group: %v, %v", nodes, err)
	}
	live.State = lease.Ended
	sessionOf(t, ctx, s, live)
	if _, err := s.RemoveGroup(ctx, "audit", true); err != nil {
		t.Errorf("a dry run: %v", err)
	}
	if removed, err := s.Confirm(ctx, "group.audit"); removed || err != nil {
		t.Errorf("after a dry run: %v, %v", removed, err)
	}
	if groups, err := s.withoutRemoved(ctx, []string{"audit"}); err != nil || fmt.Sprint(groups) != "[audit]" {
		t.Errorf("groups of the topic: %v, %v", groups, err)
	}
	for range 2 {
		if _, err := s.RemoveGroup(ctx, "audit", false); err != nil {
			t.Fatal(err)
		}
	}
	if removed, err := s.Confirm(ctx, "group.audit"); !removed || err != nil {
		t.Errorf("a removed group is confirmed: %v, %v", removed, err)
	}
	if _, err := s.ReadDefinition(ctx, "group.audit", &def); err != nil || def.Done != done || def.Topic != "orders" {
		t.Errorf("the rest of the definition: %+v, %v", def, err)
	}
	if groups, err := s.withoutRemoved(ctx, []string{"audit"}); err != nil || len(groups) > 0 {
		t.Errorf("a removed group holds the topic back: %v, %v", groups, err)
	}
	live.State = lease.Live // a node that comes up with it all the same is not robbed of its messages
	sessionOf(t, ctx, s, live)
	if groups, err := s.withoutRemoved(ctx, []string{"audit"}); err != nil || len(groups) != 1 {
		t.Errorf("a removed group that is served: %v, %v", groups, err)
	}
}

func TestTopicIsRemovedOnlyWhenNobodyHasIt(t *testing.T) {
	s, _ := openKV(t, servertest.Single(t).Conn, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	type topic struct {
		Version int    `json:"v"`
		Subject string `json:"subject"`
		Removed bool   `json:"removed"`
	}
	if _, err := s.RemoveTopic(ctx, "orders", "_chores_orders", false); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown topic: %v", err)
	}
	var def topic
	if err := s.Define(ctx, "topic.orders", topic{Version: 1, Subject: "orders.*"}, &def); err != nil {
		t.Fatal(err)
	}
	live := *session("n1", 3)
	live.Groups = []string{"_chores_orders"}
	sessionOf(t, ctx, s, live)
	if nodes, err := s.RemoveTopic(ctx, "orders", "_chores_orders", false); !errors.Is(err, ErrAlive) || fmt.Sprint(nodes) != "[n1]" {
		t.Errorf("a topic of a live node: %v, %v", nodes, err)
	}
	live.State = lease.Ended
	sessionOf(t, ctx, s, live)
	for _, dry := range []bool{true, false} {
		if _, err := s.RemoveTopic(ctx, "orders", "_chores_orders", dry); err != nil {
			t.Fatal(err)
		}
		if removed, err := s.Confirm(ctx, "topic.orders"); removed == dry || err != nil {
			t.Errorf("dry %v: confirmed as removed %v, %v", dry, removed, err)
		}
	}
	if _, err := s.ReadDefinition(ctx, "topic.orders", &def); err != nil || def.Subject != "orders.*" || !def.Removed {
		t.Errorf("the definition: %+v, %v", def, err)
	}
}

// The race that Confirm is for: a removal that has looked, and a node that goes live before it writes.
func TestConfirmedGroupIsNotRemovedOnAnOldLook(t *testing.T) {
	s, _ := openKV(t, servertest.Single(t).Conn, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var def definition
	if err := s.Define(ctx, "group.audit", definition{Version: 1, Topic: "orders"}, &def); err != nil {
		t.Fatal(err)
	}
	defs, _, err := s.definitionsAndServers(ctx, "group")
	if err != nil {
		t.Fatal(err)
	}
	sessionOf(t, ctx, s, lease.Session{
		Version: 1, Node: "n1", Boot: 1, State: lease.Live, Nonce: "x-1", TTL: time.Second, Weight: 1, Groups: []string{"audit"},
	})
	if _, err := s.Confirm(ctx, "group.audit"); err != nil {
		t.Fatal(err)
	}
	def.Removed = true
	if _, err := s.put(ctx, "group.audit", defs["audit"].Revision, def); !errors.Is(err, ErrConflict) {
		t.Errorf("a removal on the old look: %v", err)
	}
}

func TestOnlyADeadSessionIsEnded(t *testing.T) {
	s, _ := openKV(t, servertest.Single(t).Conn, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	rec := *session("n2", 7)
	sessionOf(t, ctx, s, rec)
	if err := s.EndSession(ctx, "n2"); !errors.Is(err, ErrAlive) {
		t.Errorf("a live one: %v", err)
	}
	rec.State, rec.Nonce = lease.Dead, ""
	sessionOf(t, ctx, s, rec)
	for range 2 {
		if err := s.EndSession(ctx, "n2"); err != nil {
			t.Fatal(err)
		}
	}
	obs, err := s.Read(ctx, lease.SessionKey("n2"))
	if err != nil || obs.Session.State != lease.Ended || obs.Session.Boot != 7 || strings.Contains(obs.Session.Nonce, "x") {
		t.Errorf("%+v, %v", obs.Session, err)
	}
	if err := s.EndSession(ctx, "n9"); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown one: %v", err)
	}
}
