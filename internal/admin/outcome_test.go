package admin_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"leasehold/internal/cli"
	"leasehold/server/servertest"
)

// leasehold runs a command against the node and wants its exit code and, in what it prints, each part.
func (a *obedient) leasehold(code int, command string, parts ...string) {
	a.t.Helper()
	var out bytes.Buffer
	app := &cli.App{In: strings.NewReader(""), Out: &out, Err: &out}
	got := app.Main(context.Background(), append(strings.Fields(command), "--addr", a.Config.SocketPath()))
	if got != code {
		a.t.Errorf("%s: exit code %d, want %d: %s", command, got, code, out.String())
	}
	for _, part := range parts {
		if !strings.Contains(out.String(), part) {
			a.t.Errorf("%s: no %q in %s", command, part, out.String())
		}
	}
}

// TestRequeueSaysWhatCameOfIt: with a handler that fails again, one that is well, and a paused group.
func TestRequeueSaysWhatCameOfIt(t *testing.T) {
	t.Parallel()
	a := newObedient(t, "")
	a.Say(map[string]string{"k1": "reject", "j1": "reject"})
	a.Publish("k:k1")
	a.WaitLetters("dead rejected k1")
	a.Publish("j:j1")
	n := a.WaitLetters("dead rejected k1", "dead rejected j1")
	a.leasehold(1, "dlq requeue billing --key k --yes", "requeued 1 dead letter", "outcome: 1 failed again",
		"message 3 of key k", "as told", "dlq list billing")
	a.Say(map[string]string{"j1": "reject"})
	a.leasehold(12, "dlq requeue billing --all --yes", "outcome: 1 handled, 1 failed again", "of key j", "as told")
	a.leasehold(0, "pause billing --reason lunch", "paused 4 partitions")
	a.Say(map[string]string{})
	a.leasehold(6, "dlq requeue billing --all --yes --wait 1s", "outcome: 1 still waiting", "partition is paused: lunch")
	a.leasehold(0, "resume billing", "resumed 4 partitions")
	a.leasehold(0, "resume billing", "nothing changed")
	a.WaitDone("j1", "k1")
	a.leasehold(5, fmt.Sprintf("dlq requeue billing %d --dry-run", n[0].Number), "there is no dead letter")
	a.End(t)
}

// TestReleaseSaysWhatCameOfIt: while the message fails again, while another is rejected, and when all are well.
func TestReleaseSaysWhatCameOfIt(t *testing.T) {
	t.Parallel()
	a := newObedient(t, `on_exhausted = "park_key"`)
	a.Say(map[string]string{"k1": "retry"})
	a.Publish("k:k1", "k:k2", "k:k3", "j:j1")
	a.WaitLetters("parked max_attempts k1", "parked parked k2", "parked parked k3")
	a.leasehold(1, "dlq release billing --key k", "outcome: 3 failed again", "message 1 of key k",
		"released message 1 failed 2 times: as told")
	a.Say(map[string]string{"k2": "reject"})
	a.leasehold(12, "dlq release billing --key k", "outcome: 2 handled, 1 failed again", ": dead letter", "as told")
	a.WaitLetters("dead rejected k2")
	a.leasehold(5, "dlq release billing --key k", "nothing of key")
	a.leasehold(0, "resume billing", "nothing changed")
	a.WaitDone("j1", "k1", "k3")
	a.End(t)
}

// TestResumeSaysForHowManyPartitionsItChangesSomething: of a group that is blocked at one message.
func TestResumeSaysForHowManyPartitionsItChangesSomething(t *testing.T) {
	t.Parallel()
	a := newObedient(t, `on_exhausted = "block"`)
	a.Say(map[string]string{"k1": "reject"})
	a.Publish("k:k1")
	a.waitState("blocked")
	a.leasehold(0, "resume billing --dry-run", "would resume 1 partition")
	a.Say(map[string]string{})
	a.leasehold(0, "resume billing", "resumed 1 partition")
	a.WaitDone("k1")
	a.leasehold(0, "resume billing", "nothing changed")
	a.leasehold(0, "pause billing --reason lunch --wait 0s")
	a.leasehold(0, "resume billing", "resumed 4 partitions") // The pause may still be on its way.
	a.End(t)
}

// waitState waits until a partition of the group is in a state.
func (a *obedient) waitState(state string) {
	a.t.Helper()
	servertest.Eventually(a.t, time.Minute, func() error {
		for _, p := range a.Group().Partitions {
			if p.State == state {
				return nil
			}
		}
		return fmt.Errorf("no partition is %s", state)
	})
}
