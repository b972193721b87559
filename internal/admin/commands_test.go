package admin_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"leasehold/internal/api"
	"leasehold/server/servertest"
)

func TestDeadLetterIsShownRequeuedAndDropped(t *testing.T) {
	t.Parallel()
	a := newObedient(t, "")
	a.Say(map[string]string{"bad": "retry", "worse": "reject"})
	a.Publish("k:k1", "k:bad", "k:worse", "k:k2")
	a.WaitDone("k1", "k2")
	letters := a.WaitLetters("dead max_attempts bad", "dead rejected worse")
	l := letters[0]
	if l.Attempts != 2 || l.Error != "as told" || l.Key != "k" || l.Subject != "orders.k" || l.Node != "n1" ||
		l.Headers["Nats-Msg-Id"][0] != "id-bad" {
		t.Errorf("letter %+v", l)
	}
	if g := a.Group(); g.DeadLetters != 2 {
		t.Errorf("status says %d dead letters", g.DeadLetters)
	}
	a.Say(map[string]string{})
	done, err := a.Client.Requeue(context.Background(), "billing", api.LetterOrder{Numbers: []uint64{l.Number, 77}})
	if err != nil || len(done.Done) != 1 || len(done.Failed) != 1 {
		t.Fatalf("requeue: %+v, %v", done, err)
	}
	a.WaitDone("bad", "k1", "k2")
	calls := a.Calls()
	if last := calls[len(calls)-1]; last.Idem != "id-bad" || last.Attempt != 1 {
		t.Errorf("requeued as %+v", last)
	}
	if _, err := a.Client.Drop(context.Background(), "billing",
		api.LetterOrder{Numbers: []uint64{letters[1].Number}}); err != nil {
		t.Fatal(err)
	}
	a.WaitLetters()
	a.End(t)
}

func TestRequeuedMessageIsNotRequeuedForEver(t *testing.T) {
	t.Parallel()
	a := newObedient(t, "")
	a.Say(map[string]string{"bad": "reject"})
	a.Publish("k:bad")
	for want := range 3 {
		l := a.WaitLetters("dead rejected bad")[0]
		if l.Requeues != want {
			t.Fatalf("requeued %d times, want %d", l.Requeues, want)
		}
		done, err := a.Client.Requeue(context.Background(), "billing",
			api.LetterOrder{Numbers: []uint64{l.Number}, MaxRequeues: 2})
		if err != nil || len(done.Failed) != want/2 {
			t.Fatalf("requeue %d: %+v, %v", want, done, err)
		}
		if want < 2 {
			servertest.Eventually(t, time.Minute, func() error {
				if ls := a.Letters(); len(ls) != 1 || ls[0].Number == l.Number {
					return errors.New("not back yet")
				}
				return nil
			})
		}
	}
	a.End(t)
}

func TestParkedKeyIsReleasedInOrderAcrossARestart(t *testing.T) {
	t.Parallel()
	a := newObedient(t, `on_exhausted = "park_key"`)
	a.Say(map[string]string{"k2": "retry"})
	a.Publish("k:k1", "k:k2", "j:j1", "k:k3", "j:j2")
	a.WaitDone("j1", "j2", "k1")
	a.WaitLetters("parked max_attempts k2", "parked parked k3")
	a.End(t)
	a.Start(t)
	a.Publish("k:k4", "j:j3")
	a.WaitDone("j1", "j2", "j3", "k1")
	a.WaitLetters("parked max_attempts k2", "parked parked k3", "parked parked k4")
	if done, err := a.Client.Requeue(context.Background(), "billing", api.LetterOrder{Numbers: []uint64{1}}); err != nil ||
		len(done.Failed) != 1 {
		t.Errorf("a parked message was requeued: %+v, %v", done, err)
	}
	a.Say(map[string]string{})
	a.Command(api.Ask{Kind: "release", Keys: []string{"k"}})
	a.WaitLetters()
	a.Publish("k:k5")
	a.WaitDone("j1", "j2", "j3", "k1", "k2", "k3", "k4", "k5")
	a.End(t)
}

func TestDroppingTheLastParkedMessageUnparksItsKey(t *testing.T) {
	t.Parallel()
	a := newObedient(t, `on_exhausted = "park_key"`)
	a.Say(map[string]string{"k1": "retry"})
	a.Publish("k:k1")
	l := a.WaitLetters("parked max_attempts k1")[0]
	if _, err := a.Client.Drop(context.Background(), "billing", api.LetterOrder{Numbers: []uint64{l.Number}}); err != nil {
		t.Fatal(err)
	}
	servertest.Eventually(t, time.Minute, func() error {
		for _, p := range a.Group().Partitions {
			if p.Parked > 0 || p.State != "held" {
				return fmt.Errorf("partition %+v", p)
			}
		}
		return nil
	})
	a.Publish("k:k2")
	a.WaitDone("k2")
	a.End(t)
}

func TestPauseLastsUntilSomebodyResumes(t *testing.T) {
	t.Parallel()
	a := newObedient(t, "")
	a.Publish("k:k1")
	a.WaitDone("k1")
	a.Command(api.Ask{Kind: "pause", Reason: "lunch"})
	a.Publish("k:k2")
	a.End(t)
	a.Start(t)
	servertest.Eventually(t, time.Minute, func() error {
		for _, p := range a.Group().Partitions {
			if p.State != "paused" || p.Paused != "lunch" ||
				p.Error != fmt.Sprintf("lunch; `leasehold resume billing --partition %d` lets it go on", p.Partition) {
				return fmt.Errorf("partition %+v", p)
			}
		}
		return nil
	})
	a.WaitDone("k1")
	a.Command(api.Ask{Kind: "resume"})
	a.WaitDone("k1", "k2")
	a.End(t)
}

func TestHandlersPauseEndsWithResumeToo(t *testing.T) {
	t.Parallel()
	a := newObedient(t, "")
	a.Say(map[string]string{"k2": "pause"})
	a.Publish("k:k1", "k:k2", "k:k3")
	servertest.Eventually(t, time.Minute, func() error {
		for _, p := range a.Group().Partitions {
			if strings.Contains(p.Paused, "as told") {
				return nil
			}
		}
		return errors.New("nothing is paused")
	})
	a.Say(map[string]string{})
	a.Command(api.Ask{Kind: "resume"})
	a.WaitDone("k1", "k2", "k3")
	a.End(t)
}

func TestSeekHandlesAgainUnderANewEpochAndSaysHowMany(t *testing.T) {
	t.Parallel()
	a := newObedient(t, "")
	a.Publish("k:k1", "k:k2", "k:k3", "j:j4")
	a.WaitDone("j4", "k1", "k2", "k3")
	servertest.Eventually(t, time.Minute, func() error { // The checkpoints are stored every 100 ms.
		plan, err := a.Client.Ask(context.Background(), "billing", api.Ask{Kind: "seek", To: "seq:2", DryRun: true})
		if err == nil && (plan.Seq != 1 || plan.ID != 0 || plan.Again != 3 || plan.Skipped != 0) {
			err = fmt.Errorf("plan %+v", plan)
		}
		return err
	})
	a.Command(api.Ask{Kind: "seek", To: "seq:2"})
	servertest.Eventually(t, time.Minute, func() error {
		if got := a.Done(); len(got) != 7 {
			return fmt.Errorf("done %v", got)
		}
		return nil
	})
	epochs := map[string][]uint64{}
	for _, c := range a.Calls() {
		epochs[c.Data] = append(epochs[c.Data], c.Epoch)
	}
	if e := epochs["k2"]; len(e) != 2 || e[1] <= e[0] || len(epochs["k1"]) != 1 {
		t.Errorf("epochs %v", epochs)
	}
	a.Command(api.Ask{Kind: "pause", Reason: "skip some"})
	a.Publish("k:k5", "k:k6")
	const skips = "skips 2 messages that the group has not handled, in partitions "
	// the same place
	for _, to := range []string{"time:" + time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "seq:7", "latest"} {
		asked, err := a.Client.Ask(context.Background(), "billing", api.Ask{Kind: "seek", To: to, DryRun: to != "latest"})
		if err != nil || asked.Skipped != 2 || !strings.HasPrefix(asked.Skips, skips) {
			t.Errorf("seek to %s: %+v, %v", to, asked, err)
		}
	}
	a.Command(api.Ask{Kind: "seek", To: "latest"})
	a.Command(api.Ask{Kind: "resume"})
	a.Publish("k:k7")
	servertest.Eventually(t, time.Minute, func() error {
		if got := a.Done(); got[len(got)-1] != "k7" || slices.Contains(got, "k5") {
			return fmt.Errorf("done %v", got)
		}
		return nil
	})
	a.End(t)
}

func TestWhatCannotBeAskedIsRefusedByName(t *testing.T) {
	t.Parallel()
	a := newObedient(t, "")
	for _, c := range []struct {
		group string
		ask   api.Ask
		kind  error
		says  string
	}{
		{"nobody", api.Ask{Kind: "resume"}, api.ErrNotFound, `no group "nobody"`},
		{"billing", api.Ask{Kind: "resume", Partitions: []int{4}}, api.ErrNotFound, "no partition 4"},
		{"billing", api.Ask{Kind: "explode"}, api.ErrBadRequest, `"explode"`},
		{"billing", api.Ask{Kind: "pause"}, api.ErrBadRequest, "reason"},
		{"billing", api.Ask{Kind: "seek", To: "soon"}, api.ErrBadRequest, `"soon"`},
		{"billing", api.Ask{Kind: "seek", To: "seq:99"}, api.ErrBadRequest, "newest message is 0"},
		{"billing", api.Ask{Kind: "seek", To: "2h"}, api.ErrBadRequest, `"2h"`},
		{"billing", api.Ask{Kind: "release", Keys: []string{"k"}}, api.ErrNotFound, `key "k"`},
	} {
		if _, err := a.Client.Ask(context.Background(), c.group, c.ask); !errors.Is(err, c.kind) ||
			!strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c.ask, err)
		}
	}
	port := api.NewClient(a.HTTP)
	if _, err := port.Ask(context.Background(), "billing", api.Ask{Kind: "resume"}); !errors.Is(err, api.ErrNotAllowed) {
		t.Errorf("over the port without a token: %v", err)
	}
	if _, err := a.Client.Ask(context.Background(), "billing",
		api.Ask{Kind: "seek", To: "-7d", DryRun: true}); err != nil {
		t.Errorf("seek by a week: %v", err)
	}
	four := 4
	_, err := a.Client.DeadLetters(context.Background(), "billing", api.LetterFilter{Partition: &four})
	if !errors.Is(err, api.ErrNotFound) || !strings.Contains(err.Error(), "no partition 4") {
		t.Errorf("dead letters of a partition that is not there: %v", err)
	}
	_, err = port.DeadLetters(context.Background(), "billing", api.LetterFilter{})
	if !errors.Is(err, api.ErrNotAllowed) {
		t.Errorf("dead letters over the port without a token: %v", err)
	}
	a.End(t)
}
