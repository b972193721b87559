package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/sdk"
)

// logConfig is the config table of a group whose handler logs its calls.
type logConfig struct {
	Dir        string `json:"dir"`         // Where the log goes: a file per group and node, appended.
	DelayMS    int64  `json:"delay_ms"`    // How long a call takes.
	RetryEvery uint64 `json:"retry_every"` // The first attempt of every n-th sequence fails; 0: none.
	Deaf       bool   `json:"deaf"`        // Calls in flight are completed when the node is gone, as by many programs.
}

// logger logs when each call started and ended, for history to judge. Partitions are handled side by side, so a call
// can take long without taking CPU.
type logger struct {
	config logConfig
	log    callLog
}

func runLog([]string) error {
	l := &logger{}
	// A call that is not deaf returns as soon as the node is gone, so the grace is for those that are.
	return sdk.Run(context.Background(), sdk.Handler{Parallel: true, Init: l.init, Handle: l.handle, Grace: time.Hour})
}

func (l *logger) init(_ context.Context, in sdk.Init) error {
	if err := json.Unmarshal(in.Config, &l.config); err != nil {
		return err
	}
	var err error
	l.log, err = openCallLog(filepath.Join(l.config.Dir, in.Group+"-"+in.Node+".calls"))
	return err
}

// handle logs the start, works, logs the end and only then answers: an answer whose end is missing from the log would
// look like a message that was lost.
func (l *logger) handle(ctx context.Context, m *sdk.Message) error {
	c := callOf(m)
	l.log.begin(&c)
	if !l.work(ctx) {
		return context.Cause(ctx)
	}
	if n := l.config.RetryEvery; n > 0 && m.Seq%n == 0 && m.Attempt == 1 {
		l.log.end(&c, "retry")
		return sdk.Retry(0, nil)
	}
	l.log.end(&c, "ok")
	return nil
}

// work takes as long as a call does, and returns false if the node is gone meanwhile. A timeout does not end it.
func (l *logger) work(ctx context.Context) bool {
	delay := time.NewTimer(time.Duration(l.config.DelayMS) * time.Millisecond)
	defer delay.Stop()
	select {
	case <-delay.C:
		return true
	case <-ctx.Done():
	}
	if errors.Is(context.Cause(ctx), sdk.ErrNodeGone) && !l.config.Deaf {
		return false
	}
	<-delay.C
	return true
}

// callLog is a file of calls. A line that is written to a file opened with O_APPEND in one piece is not torn by other
// writers.
type callLog struct{ f *os.File }

func openCallLog(name string) (callLog, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return callLog{}, fmt.Errorf("open call log: %w", err)
	}
	return callLog{f}, nil
}

// append writes one line. A handler must not continue without its log.
func (l callLog) append(c history.Call) {
	line, err := json.Marshal(c)
	if err == nil {
		_, err = l.f.Write(append(line, '\n'))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ERROR test handler: write call log:", err)
		os.Exit(1)
	}
}
