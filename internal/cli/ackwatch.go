package cli

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"leasehold/internal/api"
)

// How `pub` notices that nothing is acknowledged, and asks why. The first notice comes within three seconds.
const (
	ackEvery    = 500 * time.Millisecond
	ackPatience = 1500 * time.Millisecond
	ackAskLimit = time.Second
)

// ackWatch tells an operator what messages wait for, and keeps those back that are not sent yet while there is no
// quorum: a message that was never sent is not stored, whatever happens.
type ackWatch struct {
	client *api.Client // nil if no agent is asked
	topic  string
	tally  *pubTally
	line   *notice

	stuck atomic.Bool // nothing has been acknowledged for a while, and the operator was told why

	mu   sync.Mutex
	open chan struct{} // closed while messages may be sent
}

func (a *App) newAckWatch(client *api.Client, topic string, tally *pubTally) *ackWatch {
	w := &ackWatch{client: client, topic: topic, tally: tally, line: newNotice(a.Err), open: make(chan struct{})}
	close(w.open)
	return w
}

// run looks until ctx ends.
func (w *ackWatch) run(ctx context.Context) {
	defer w.line.clear()
	tick := time.NewTicker(ackEvery)
	defer tick.Stop()
	settled, since := -1, time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, waiting := w.tally.progress()
		if now != settled {
			settled, since = now, time.Now()
			w.stuck.Store(!w.isOpen())
		}
		if w.isOpen() && (!waiting || time.Since(since) < ackPatience) {
			continue
		}
		w.poll(ctx, waiting)
	}
}

// poll asks the agent what is missing.
func (w *ackWatch) poll(ctx context.Context, waiting bool) {
	const silent = "no acknowledgement yet: waiting"
	if w.client == nil {
		w.warn(silent + " (the topic has no leader, or does not exist)")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, ackAskLimit)
	defer cancel()
	info, err := w.client.Topic(ctx, w.topic)
	switch {
	case err != nil && ctx.Err() == nil:
		w.warn(silent + " (" + plainError(err) + ")")
	case err != nil:
	case info.NoQuorum != "":
		w.wait(info.NoQuorum)
	default:
		if w.admit(); waiting {
			w.warn(silent + " (the topic has no leader: its replicas are electing one, or are away)")
		}
	}
}

// wait keeps messages back and says what for.
func (w *ackWatch) wait(noQuorum string) {
	w.mu.Lock()
	select {
	case <-w.open:
		w.open = make(chan struct{})
	default:
	}
	w.mu.Unlock()
	w.warn(waitingFor(noQuorum))
}

// warn tells the operator. It is called before run, and by it.
func (w *ackWatch) warn(text string) {
	w.stuck.Store(true)
	w.line.show(text)
}

// admit lets messages be sent.
func (w *ackWatch) admit() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.open:
	default:
		close(w.open)
	}
}

func (w *ackWatch) gate() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open
}

func (w *ackWatch) isOpen() bool {
	select {
	case <-w.gate():
		return true
	default:
		return false
	}
}

// await returns when messages may be sent.
func (w *ackWatch) await(ctx context.Context) error {
	select {
	case <-w.gate():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// tellQuorum tells an operator who follows a topic when its quorum is lost and when it is back, until stop is called.
func (a *App) tellQuorum(ctx context.Context, client *api.Client, topic string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		said := ""
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			info, err := client.Topic(ctx, topic)
			if err != nil || info.NoQuorum == said {
				continue // A stream that ends says so itself.
			}
			if said = info.NoQuorum; said != "" {
				fmt.Fprintln(a.Err, waitingFor(said))
			} else {
				fmt.Fprintln(a.Err, "there is a quorum again")
			}
		}
	})
	return func() {
		cancel()
		group.Wait()
	}
}

// waitingFor says that a command waits for a quorum, and who is missing.
func waitingFor(noQuorum string) string {
	return "no quorum: waiting (" + strings.TrimPrefix(noQuorum, "no quorum: ") + ")"
}
