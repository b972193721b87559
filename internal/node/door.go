package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/partitioner"
)

// How readiness is tried at the door that publishers' messages come in by: a broker can look well in every respect and yet take
// no message of a topic.
const (
	doorEvery = time.Second     // Between two tries at a topic.
	doorLimit = 5 * time.Second // For an answer: behind a flood of its topic, a message takes seconds and gets there.
	doorTries = 3               // Failures in a row that make the node not ready.
)

// probe tries once whether a topic takes messages, without leaving one there.
type probe func(ctx context.Context) error

// The broker's codes for a message that is not stored (nats-server's errors.json).
const (
	codeOtherStream = 10060 // Nats-Expected-Stream names another stream.
	codeNotStored   = 10077 // A limit of the stream: it is full, or held for want of disk space.
	codeExceeded    = 10047 // A limit of the account.
)

// noStream is not the name of any topic: a topic's begins with a letter or a digit.
const noStream = "_leasehold_probe"

// newProbe publishes what a topic's leader refuses before it stores anything: a message for a stream that does not exist. The
// answer shows that the message came through and that the topic has a leader. A topic that is full answers, too.
func newProbe(nc *nats.Conn, t partitioner.Topic) probe {
	subject := strings.ReplaceAll(t.Subject, "*", noStream)
	return func(ctx context.Context) error {
		m := nats.NewMsg(subject)
		m.Header.Set(nats.ExpectedStreamHdr, noStream)
		answer, err := nc.RequestMsgWithContext(ctx, m)
		if err != nil {
			return err
		}
		return probeVerdict(answer.Data)
	}
}

// probeVerdict reads a topic's answer to a probe.
func probeVerdict(data []byte) error {
	var ack struct {
		Stream string `json:"stream"`
		Error  *struct {
			Code int    `json:"err_code"`
			Text string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &ack); err != nil {
		return fmt.Errorf("answer %.100q: %w", data, err)
	}
	switch {
	case ack.Error == nil:
		return fmt.Errorf("stream %q stored a message that it had to refuse", ack.Stream)
	case slices.Contains([]int{codeOtherStream, codeNotStored, codeExceeded}, ack.Error.Code):
		return nil
	}
	return fmt.Errorf("%s (%d)", ack.Error.Text, ack.Error.Code)
}

// doors tries the topics' probes and remembers how that went.
type doors struct {
	probes map[string]probe

	mu     sync.Mutex
	failed map[string]int   // Tries in a row, by topic.
	why    map[string]error // Of the last failure.
}

func newDoors(probes map[string]probe) *doors {
	return &doors{probes: probes, failed: map[string]int{}, why: map[string]error{}}
}

// run tries every topic once a second until ctx ends. Topics do not wait for one another.
func (d *doors) run(ctx context.Context) error {
	var all sync.WaitGroup
	for topic, p := range d.probes {
		all.Go(func() {
			tick := time.NewTicker(doorEvery)
			defer tick.Stop()
			for ctx.Err() == nil {
				d.try(ctx, topic, p)
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		})
	}
	all.Wait()
	<-ctx.Done()
	return nil
}

func (d *doors) try(ctx context.Context, topic string, p probe) {
	try, cancel := context.WithTimeout(ctx, doorLimit)
	defer cancel()
	err := p(try)
	if ctx.Err() != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.failed[topic] = 0
		return
	}
	d.failed[topic]++
	d.why[topic] = err
}

// reasons are the topics that take no messages through this node.
func (d *doors) reasons() (out []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for topic, n := range d.failed {
		if n >= doorTries {
			out = append(out, fmt.Sprintf("topic %s to take messages: %d tries in a row failed, the last with: %v", topic, n, d.why[topic]))
		}
	}
	slices.Sort(out)
	return out
}
