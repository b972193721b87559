package readiness

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

// Topics are probed where publishers' messages come in: a broker can look well in every respect and yet take no message
// of a topic.
const (
	probeEvery = time.Second     // Between two probes of a topic.
	probeLimit = 5 * time.Second // For an answer: behind a flood of its topic, a message takes seconds and gets there.
	probeFails = 3               // Failures in a row that make the node not ready.
)

// Probe tries once whether a topic takes messages, without leaving one there.
type Probe func(ctx context.Context) error

// The broker's codes for a message that is not stored (nats-server's errors.json).
const (
	codeOtherStream = 10060 // Nats-Expected-Stream names another stream.
	codeNotStored   = 10077 // A limit of the stream: it is full, or held for want of disk space.
	codeExceeded    = 10047 // A limit of the account.
)

// noStream is not the name of any topic: a topic's begins with a letter or a digit.
const noStream = "_leasehold_probe"

// NewProbe publishes what a topic's leader refuses before it stores anything: a message for a stream that does not
// exist. The answer shows that the message came through and that the topic has a leader. A topic that is full answers,
// too.
func NewProbe(nc *nats.Conn, t partitioner.Topic) Probe {
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

// Probes probe the topics and remember the results.
type Probes struct {
	probes map[string]Probe

	mu     sync.Mutex
	failed map[string]int   // Probes in a row, by topic.
	why    map[string]error // Of the last failure.
}

// NewProbes returns them at rest, by topic.
func NewProbes(probes map[string]Probe) *Probes {
	return &Probes{probes: probes, failed: map[string]int{}, why: map[string]error{}}
}

// Run probes every topic once a second until ctx ends. Topics do not wait for one another.
func (d *Probes) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for topic, p := range d.probes {
		all.Go(func() {
			tick := time.NewTicker(probeEvery)
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

func (d *Probes) try(ctx context.Context, topic string, p Probe) {
	try, cancel := context.WithTimeout(ctx, probeLimit)
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
func (d *Probes) reasons() (out []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for topic, n := range d.failed {
		if n >= probeFails {
			out = append(out, fmt.Sprintf("topic %s to take messages: %d tries in a row failed, the last with: %v", topic, n,
				d.why[topic]))
		}
	}
	slices.Sort(out)
	return out
}
