// Command calllog is a handler for tests: it speaks the subprocess protocol
// and writes down when each call started and ended, for internal/harness/history to
// judge. It handles the partitions that it is given side by side, each call
// in its own goroutine, so that a call can take long without taking CPU.
//
// Its config: dir (where the log goes, one file a group and node, appended),
// delay_ms (how long a call takes, default 0), retry_every (fail the first
// attempt of every n-th sequence, default 0: none), deaf (when its input ends,
// it goes on with the calls in flight, as many programs do).
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/testcluster/monotonic"
)

// request is any line from the agent.
type request struct {
	Type           string `json:"type"`
	ID             string `json:"id"`
	Node           string `json:"node"`
	Group          string `json:"group"`
	Partition      int    `json:"partition"`
	Seq            uint64 `json:"seq"`
	Epoch          uint64 `json:"epoch"`
	Attempt        int    `json:"attempt"`
	Key            string `json:"key"`
	IdempotencyKey string `json:"idempotency_key"`
	Config         config `json:"config"`
}

type config struct {
	Dir        string `json:"dir"`
	DelayMS    int64  `json:"delay_ms"`
	RetryEvery uint64 `json:"retry_every"`
	Deaf       bool   `json:"deaf"`
}

type answer struct {
	Type   string `json:"type"`
	ID     string `json:"id"`
	Status string `json:"status,omitempty"`
	Reason string `json:"reason,omitempty"`

	Wants []string `json:"wants,omitempty"` // Of the acknowledgement of init.
}

// handler answers on out and appends to log. Both take whole lines; a write of
// one line to a file opened with O_APPEND is not torn by other writers.
type handler struct {
	agent  int // our parent, who is gone if this changes
	config config
	log    *os.File
	calls  sync.WaitGroup
	mu     sync.Mutex // of out
	out    io.Writer
}

func main() {
	h := &handler{agent: os.Getppid(), out: os.Stdout}
	// At the end of input the process ends, whatever is in flight: an agent
	// that stops cleanly has had all its answers, and a dead one wants none.
	if err := h.serve(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "calllog:", err)
		os.Exit(1)
	}
	if h.config.Deaf {
		h.calls.Wait()
	}
}

func (h *handler) serve(in io.Reader) error {
	lines := bufio.NewReaderSize(in, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read: %w", err)
		}
		var r request
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("read %q: %w", line, err)
		}
		if err := h.take(r); err != nil {
			return err
		}
	}
}

func (h *handler) take(r request) error {
	switch r.Type {
	case "init":
		if err := h.open(r); err != nil {
			return err
		}
		return h.answer(answer{Type: "ack", ID: r.ID, Wants: []string{"parallel"}})
	case "assign", "revoke":
		return h.answer(answer{Type: "ack", ID: r.ID})
	case "message":
		h.calls.Go(func() { h.call(r) })
	}
	return nil
}

func (h *handler) open(r request) error {
	h.config = r.Config
	name := filepath.Join(r.Config.Dir, r.Group+"-"+r.Node+".calls")
	log, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open call log: %w", err)
	}
	h.log = log
	return nil
}

// call logs the start, works, logs the end and only then answers: an answer
// whose end is missing from the log would look like a message that was lost.
func (h *handler) call(r request) {
	c := history.Call{
		Node: r.Node, Agent: h.agent, PID: os.Getpid(), Group: r.Group, Partition: r.Partition, Epoch: r.Epoch,
		Seq: r.Seq, Attempt: r.Attempt, Key: r.Key, ID: r.IdempotencyKey, Start: monotonic.Now(),
	}
	h.append(c)
	time.Sleep(time.Duration(h.config.DelayMS) * time.Millisecond)
	c.Result = "ok"
	if n := h.config.RetryEvery; n > 0 && r.Seq%n == 0 && r.Attempt == 1 {
		c.Result = "retry"
	}
	c.End = monotonic.Now()
	h.append(c)
	if err := h.answer(answer{Type: "result", ID: r.ID, Status: c.Result}); err != nil {
		fmt.Fprintln(os.Stderr, "calllog:", err)
		os.Exit(1)
	}
}

// append writes one line. Without its log the handler must not go on.
func (h *handler) append(c history.Call) {
	line, err := json.Marshal(c)
	if err == nil {
		_, err = h.log.Write(append(line, '\n'))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "calllog: write call log:", err)
		os.Exit(1)
	}
}

func (h *handler) answer(a answer) error {
	line, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, err := h.out.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}
