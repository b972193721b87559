package ingress

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// asked has requests sent to the service, each with its own reply subject, which the caller listens to.
func (r *rig) asked(t *testing.T, from, to int) *nats.Subscription {
	t.Helper()
	answers, err := r.inside.SubscribeSync("answers.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := answers.SetPendingLimits(-1, -1); err != nil {
		t.Fatal(err)
	}
	for i := from; i < to; i++ {
		err = errors.Join(err, r.inside.PublishRequest("serve.billing", fmt.Sprint("answers.", i), []byte("x")))
	}
	if err := errors.Join(err, r.inside.Flush()); err != nil {
		t.Fatal(err)
	}
	return answers
}

const mayNot = "-ERR 'Permissions Violation for Publish to"

func TestServiceAnswersItsOwnRequestsOnce(t *testing.T) {
	r := newRig(t, nil)
	one, two := r.as(t, "service"), r.as(t, "service")
	for _, p := range []*peer{one, two} {
		p.say(t, "SUB serve.billing workers 7\r\n")
		p.synced(t) // and so the broker knows of it
	}
	answers := r.asked(t, 0, 200)
	got := map[*peer]int{}
	both := make(chan *peer)
	for _, p := range []*peer{one, two} {
		go func() {
			for {
				line, err := p.line()
				if err != nil || !strings.HasPrefix(line, "MSG serve.billing 7 answers.") {
					return
				}
				both <- p
				_, _ = fmt.Fprintf(p, "PUB %s 1\r\ny\r\n", strings.Fields(line)[3])
			}
		}()
	}
	for range 200 {
		got[<-both]++
	}
	for range 200 {
		if m, err := answers.NextMsg(hang); err != nil || string(m.Data) != "y" {
			t.Fatal(m, err)
		}
	}
	if got[one] == 0 || got[two] == 0 {
		t.Errorf("one has answered %d, the other %d", got[one], got[two])
	}
	for _, said := range []string{"PUB answers.1 1\r\ny\r\n", "PUB answers.777 1\r\ny\r\n",
		"PUB serve.billing 1\r\ny\r\n"} {
		p := r.as(t, "service")
		p.say(t, said)
		p.expect(t, mayNot)
	}
	if m, err := answers.NextMsg(10 * time.Millisecond); err == nil {
		t.Errorf("an answer that was not asked for: %s", m.Subject)
	}
}

// Another connection's request is not one's own, nor may an answer ask for one.
func TestServiceAnswersForNoOther(t *testing.T) {
	r := newRig(t, nil)
	one, two := r.as(t, "service"), r.as(t, "service")
	one.say(t, "SUB serve.billing 7\r\n")
	one.synced(t)
	two.synced(t)
	answers := r.asked(t, 0, 2)
	one.expect(t, "MSG serve.billing 7 answers.0 1")
	one.expect(t, "MSG serve.billing 7 answers.1 1")
	two.say(t, "PUB answers.0 1\r\ny\r\n")
	two.expect(t, mayNot)
	one.say(t, "PUB answers.1 answers.0 1\r\ny\r\nPUB answers.0 1\r\nz\r\n")
	one.expect(t, mayNot)
	if m, err := answers.NextMsg(hang); err != nil || m.Subject != "answers.0" || string(m.Data) != "z" {
		t.Errorf("got %v, %v", m, err)
	}
}

// Beyond the most that may be unanswered, the oldest request may be answered no more.
func TestServiceMayLeaveABoundedNumberUnanswered(t *testing.T) {
	r := newRig(t, nil)
	p := r.as(t, "service")
	p.say(t, "SUB serve.billing 7\r\n")
	p.synced(t)
	answers := r.asked(t, 0, 1)
	p.expect(t, "MSG serve.billing 7 answers.0 1")
	eventually(t, func() error { // the coarse clock goes on: which is the oldest is then certain
		c := r.only(t)
		c.link.mu.Lock()
		defer c.link.mu.Unlock()
		if c.serving.replies["answers.0"] == r.now.Load() {
			return errors.New("the clock stands still")
		}
		return nil
	})
	r.asked(t, 1, maxRequests+1)
	for i := 1; i <= maxRequests; i++ {
		p.expect(t, fmt.Sprintf("MSG serve.billing 7 answers.%d 1", i))
	}
	p.say(t, "PUB answers.0 1\r\ny\r\n")
	p.expect(t, mayNot)
	p.say(t, fmt.Sprintf("PUB answers.%d 1\r\ny\r\n", maxRequests))
	if m, err := answers.NextMsg(hang); err != nil || m.Subject != fmt.Sprint("answers.", maxRequests) {
		t.Errorf("got %v, %v", m, err)
	}
}

func TestServiceThatReadsTooSlowlyEnds(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.MaxPayload = 64 << 10 })
	p := r.as(t, "service")
	p.say(t, "SUB serve.billing workers 7\r\n")
	p.synced(t)
	large := make([]byte, 60<<10)
	eventually(t, func() error {
		if err := errors.Join(r.inside.PublishRequest("serve.billing", "answers.a", large), r.inside.Flush()); err != nil {
			return err
		}
		return r.idle()
	})
	again := r.as(t, "service")
	again.say(t, "SUB serve.billing workers 7\r\n")
	again.synced(t)
	r.asked(t, 0, 1)
	again.expect(t, "MSG serve.billing 7 answers.0 1")
}

// A service that drains gets what the broker has sent before it took the end of the subscription, and no more; nothing
// of subscriptions that have ended is kept.
func TestServiceDrainsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.as(t, "service")
	for i := range 3000 { // three times as many as it may have at a time
		p.say(t, fmt.Sprintf("SUB serve.billing %d\r\n", i))
		if i%2 == 0 {
			p.say(t, fmt.Sprintf("UNSUB %d\r\n", i))
			continue
		}
		p.say(t, fmt.Sprintf("UNSUB %d 1\r\n", i))
		p.synced(t)
		r.asked(t, i, i+1)
		p.expect(t, fmt.Sprintf("MSG serve.billing %d answers.%d 1", i, i))
	}
	p.synced(t)
	up := r.only(t).up
	up.mu.Lock()
	if len(up.served) > 0 || len(up.pongs) > 0 {
		t.Errorf("%d subscriptions and %d pongs are left", len(up.served), len(up.pongs))
	}
	up.mu.Unlock()
	if n := r.broker.NumSubscriptions(); n > 10+3000 { // those of asked
		t.Errorf("%d subscriptions are left at the broker", n)
	}
	p.say(t, "SUB serve.billing 7\r\n")
	p.synced(t)
	r.asked(t, 0, 500)
	p.say(t, "UNSUB 7\r\nPING\r\n")
	for i := range 500 {
		p.expect(t, fmt.Sprintf("MSG serve.billing 7 answers.%d 1", i))
	}
	p.expect(t, "PONG")
	_ = p.Close()
	eventually(t, r.idle)
}

func TestServiceMaySubscribeToNothingElse(t *testing.T) {
	r := newRig(t, nil)
	p := r.as(t, "service")
	for _, said := range []string{"serve.other 1", "serve.> 1", "_INBOX.a 1", "> 1", "serve.billing * 1",
		"serve.billing a..b 1", "serve.billing " + strings.Repeat("q", maxQueue+1) + " 1"} {
		p.say(t, "SUB "+said+"\r\n")
		p.expect(t, "-ERR 'Permissions Violation for Subscription to")
	}
}

// The broker sends no more requests to a service whose connection has ended, even if it was ended while it subscribed.
func TestServiceThatHasEndedIsAskedNoMore(t *testing.T) {
	r := newRig(t, nil)
	keeps := r.as(t, "service")
	keeps.synced(t)
	before := r.broker.NumSubscriptions()
	for i := range 200 {
		p := r.as(t, "service")
		p.say(t, "SUB serve.billing workers 7\r\n")
		switch i % 3 {
		case 0:
			p.synced(t)
			_ = p.Close()
		case 1:
			_ = p.Close()
		default:
			for _, c := range r.list() {
				if c.id > 1 {
					c.end(nil)
				}
			}
		}
	}
	eventually(t, func() error {
		if n := len(r.list()); n > 1 {
			return fmt.Errorf("%d clients", n)
		}
		return nil
	})
	eventually(t, func() error {
		keeps.synced(t)
		if n := r.broker.NumSubscriptions(); n != before {
			return fmt.Errorf("%d subscriptions at the broker, %d before", n, before)
		}
		return nil
	})
	_ = keeps.Close()
	eventually(t, r.idle)
}
