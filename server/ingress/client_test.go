package ingress

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// flood writes until the ingress reads no more. It reports how much that was, or fails after far more than there is
// room for.
func flood(t *testing.T, p *peer, text string) int {
	t.Helper()
	block, sent := []byte(strings.Repeat(text, 1+(32<<10)/len(text))), 0
	for sent < 64<<20 {
		_ = p.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := p.Write(block)
		sent += n
		if err != nil {
			return sent
		}
	}
	t.Fatalf("a client that reads nothing was read without end: %.40q", text)
	return 0
}

// heldFor is how many bytes wait for a client.
func (l *link) heldFor() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.out)
}

// Whatever a client says, it costs no more than a bounded amount of memory if it does not read what it is told.
func TestClientThatReadsNothingIsNotReadWithoutEnd(t *testing.T) {
	for name, text := range map[string]string{
		"PING":          "PING\r\n",
		"forbidden":     "PUB x 0\r\n\r\n",
		"refused":       "PUB orders.* _INBOX.a 0\r\n\r\n",
		"subscriptions": "SUB x 1\r\n",
		"published":     "PUB orders.a _INBOX.a 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			r.answering(t)
			p := r.as(t, "alice")
			p.say(t, "SUB _INBOX.> 1\r\n")
			flood(t, p, text)
			if n := r.only(t).link.heldFor(); n > mostOut {
				t.Errorf("%d bytes wait for it", n)
			}
			r.publishes(t, r.as(t, "alice"))
		})
	}
}

// A thousand subscriptions to each answer make a thousand copies of it.
func TestManySubscriptionsToOneAnswerEndASlowClient(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.answering(t)
	p := r.as(t, "alice")
	for i := range 1000 {
		p.say(t, fmt.Sprintf("SUB _INBOX.> %d\r\n", i))
	}
	refused := "PUB orders.* _INBOX." + strings.Repeat("x", 200) + " 0\r\n\r\n"
	_, _ = io.WriteString(p, strings.Repeat(refused, 100))
	eventually(t, func() error {
		for _, refused := range r.Refused() {
			if refused.Reason == "slow_consumer" {
				return nil
			}
		}
		return errors.New("not ended as a slow consumer")
	})
	eventually(t, r.idle)
	r.publishes(t, r.as(t, "alice"))
}

// A connection that publishes without a pause is in the middle of a message whenever it is looked at, and is not slow:
// each message has its own time.
func TestBusySenderIsNotTakenForASlowOne(t *testing.T) {
	r := newRig(t, nil)
	r.answering(t)
	p := r.as(t, "alice")
	c := r.only(t)
	p.say(t, "SUB _INBOX.> 1\r\nPUB orders.a _INBOX.a 2\r\nx")
	began := int64(0)
	for range 3 {
		eventually(t, func() error {
			at := c.pulse.partial.Load()
			if at <= began || r.now.Load() <= at {
				return fmt.Errorf("in the middle of a message since %d, of one before since %d", at, began)
			}
			return nil
		})
		began = c.pulse.partial.Load()
		p.say(t, "y\r\nPUB orders.a _INBOX.a 2\r\nx")
		p.expect(t, "MSG _INBOX.a 1 4")
	}
}

// Times of a client, seen from far in the future.
func TestSlowAndSilentClientsEnd(t *testing.T) {
	type look struct {
		after time.Duration
		ends  bool
	}
	for name, c := range map[string]struct {
		said  string
		looks []look
	}{
		"not logged in": {"", []look{{loginLimit - time.Second, false}, {loginLimit + time.Second, true}}},
		"in the middle of a line": {"PING\r\nPUB orders",
			[]look{{stallLimit - time.Second, false}, {stallLimit + time.Second, true}}},
		"in the middle of a message": {"PING\r\nPUB orders.a 9\r\nx",
			[]look{{stallLimit - time.Second, false}, {stallLimit + time.Second, true}}},
		"in the middle of a refused": {"PING\r\nPUB other.a 9\r\nx",
			[]look{{stallLimit - time.Second, false}, {stallLimit + time.Second, true}}},
		"silent without a pong": {"PING\r\n", []look{{pingEvery + time.Second, false},
			{2*pingEvery + time.Second, false}, {3*pingEvery + time.Second, true}}},
		"silent, but for a short time": {"PING\r\n", []look{{pingEvery - time.Second, false}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			conn, err := r.dialRaw()
			if err != nil {
				t.Fatal(err)
			}
			p := newPeer(t, conn, "")
			if c.said != "" {
				p.say(t, c.said)
				p.expect(t, "PONG")
			}
			one := r.only(t)
			eventually(t, func() error {
				one.link.mu.Lock()
				defer one.link.mu.Unlock()
				if middle := !strings.HasSuffix(c.said, "\n") && c.said != ""; middle != (one.pulse.partial.Load() > 0) {
					return errors.New("not all has been read")
				}
				return nil
			})
			begun := time.Now()
			for _, l := range c.looks {
				one.sweep(begun.Add(l.after))
				if one.link.hasEnded() != l.ends {
					t.Fatalf("after %s: ended %v", l.after, !l.ends)
				}
			}
		})
	}
}

// Room that a client has taken comes back however and whenever its connection ends.
func TestEndAtAnyMomentGivesBackAllRoom(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *Options) { o.Limits.Bytes = 1 << 20 })
	heard, err := r.inside.SubscribeSync("orders.*") // which nobody answers at once
	if err := errors.Join(err, r.inside.Flush()); err != nil {
		t.Fatal(err)
	}
	large := "PUB orders.a _INBOX.a 400000\r\n" + strings.Repeat("x", 400000) + "\r\n"
	for _, said := range []string{
		"PUB orders.a 1\r\nx\r\n", "PUB orders.a 1\r\nx", "PUB ord", large, large[:200000], large + large,
		large + large + large[:100000],
		"PUB other 100000\r\nxx", "CONNECT {}\r\n", strings.Repeat("PUB orders.a 1\r\nx\r\n", 5000),
	} {
		for _, how := range []string{"client", "server", "upstream"} {
			p, waits := r.as(t, "alice"), r.as(t, "alice")
			_ = p.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)) // it may be held back
			_, _ = io.WriteString(p, said)
			waits.synced(t)
			switch how {
			case "client":
				_ = p.Close()
			case "server":
				for _, c := range r.list() {
					c.end(errStale)
				}
			case "upstream":
				r.kick(t, "alice")
			}
			_ = errors.Join(p.Close(), waits.Close())
			r.answerAll(heard)
			eventually(t, func() error {
				r.answerAll(heard)
				return r.idle()
			})
		}
	}
}

func (r *rig) answerAll(heard *nats.Subscription) {
	for {
		m, err := heard.NextMsg(time.Millisecond)
		if err != nil {
			return
		}
		_ = m.Respond(nil)
	}
}

// A connection that was busy once and is silent now holds little.
func TestSilentClientHoldsLittle(t *testing.T) {
	r := newRig(t, nil)
	heard, err := r.inside.SubscribeSync("orders.*")
	if err := errors.Join(err, r.inside.Flush()); err != nil {
		t.Fatal(err)
	}
	p := r.as(t, "alice")
	p.say(t, "SUB _INBOX.> 1\r\n"+strings.Repeat("PUB orders.a _INBOX."+strings.Repeat("r", 200)+" 0\r\n\r\n", 1000))
	c := r.only(t)
	for range 1000 {
		m, err := heard.NextMsg(hang)
		if err != nil {
			t.Fatal(err)
		}
		_ = m.Respond(nil)
	}
	for range 1000 {
		p.expect(t, "MSG _INBOX.r")
	}
	eventually(t, func() error { // housekeeping sweeps every second
		c.link.mu.Lock()
		defer c.link.mu.Unlock()
		if cap(c.link.out)+cap(c.link.spare) > 0 || !c.window.Small() {
			return fmt.Errorf("%d and %d bytes are held, window small: %v", cap(c.link.out), cap(c.link.spare), c.window.Small())
		}
		return nil
	})
	p.say(t, "PUB orders.* _INBOX.a 0\r\n\r\n")
	p.expect(t, "MSG _INBOX.a 1")
}

// What waits for a client is written in pieces: the deadline of a write is for what a slow link takes in the time.
func TestLargeAnswersAreWrittenInPieces(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.as(t, "alice")
	flood(t, p, "PING\r\n")
	buf, total, most := make([]byte, mostOut), 0, 0
	for total < 2*maxPiece {
		n, err := p.Read(buf) // of a pipe: one write at most
		if err != nil {
			t.Fatal(err)
		}
		total, most = total+n, max(most, n)
	}
	if most != maxPiece {
		t.Errorf("the largest write had %d bytes", most)
	}
}

// Operations that are no messages are slowed where a user has too many; others do not notice, and messages of the user
// pass.
func TestOperationsOfAUserAreSlowedDown(t *testing.T) {
	for _, what := range []string{"PING\r\n", "SUB _INBOX.a 1\r\nUNSUB 1\r\n", "PUB orders.* _INBOX.a 0\r\n\r\n",
		"SUB forbidden 1\r\n", "PUB forbidden 0\r\n\r\n"} {
		t.Run(what[:4], func(t *testing.T) { slowedDown(t, what) })
	}
}

func slowedDown(t *testing.T, what string) {
	t.Helper()
	r := newRig(t, func(o *Options) { o.Limits.Operations = 10 })
	r.answering(t)
	noisy := r.as(t, "alice")
	go io.Copy(io.Discard, noisy)
	go func() {
		for err := error(nil); err == nil; {
			_, err = io.WriteString(noisy, strings.Repeat(what, 50))
		}
	}()
	waits := r.only(t)
	eventually(t, func() error {
		if !waits.pulse.waiting.Load() {
			return errors.New("it is read without a rest")
		}
		return nil
	})
	quiet := r.as(t, "bob")
	quiet.say(t, "SUB _INBOX.a 1\r\nPUB orders.a _INBOX.a 1\r\nx\r\n")
	quiet.expect(t, "MSG _INBOX.a 1 4\r\ndone")
	noisy.Close()
	waits.end(nil)
	eventually(t, func() error {
		if waits.pulse.waiting.Load() {
			return errors.New("it waits after its end")
		}
		return nil
	})
}
