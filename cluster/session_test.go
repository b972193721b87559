package cluster

import (
	"context"
	"errors"
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
	if err != nil || obs.Session.State != lease.Ended || obs.Session.Boot != 7 ||
		strings.Contains(obs.Session.Nonce, "x") {
		t.Errorf("%+v, %v", obs.Session, err)
	}
	if err := s.EndSession(ctx, "n9"); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown one: %v", err)
	}
}
