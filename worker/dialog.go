package worker

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrChildEnded says that a child takes no more lines: it is dead or dying, or was told to stop.
var ErrChildEnded = errors.New("handler child has ended")

// Dialog is one life of a subprocess handler's child, for those who look into the child itself: they write its lines, in
// any order and to any rule, and judge all that it answers. A Subprocess would not write a wrong line, and would ignore a
// wrong answer. The process is kept exactly as a node keeps it: own group, clean environment, dead when we are.
//
// Methods can be called from several goroutines.
type Dialog struct {
	cfg SubprocessConfig
	env HandlerEnv
	c   *child

	mu    sync.Mutex
	token string // Of the last init line.
}

// StartDialog starts a child and tells it nothing. Each line of its stdout goes to heard, from one goroutine; the line is
// only valid during the call.
func StartDialog(cfg SubprocessConfig, env HandlerEnv, heard func(line []byte)) (*Dialog, error) {
	cfg, err := completed(cfg)
	if err != nil {
		return nil, err
	}
	c, err := spawn(cfg.program().command(env.Lock), env.logger(kindSubprocess), heard)
	if err != nil {
		return nil, fmt.Errorf("start handler child: %w", err)
	}
	return &Dialog{cfg: cfg, env: env, c: c}, nil
}

// Init sends the init line.
func (d *Dialog) Init(id string) error {
	line := newInitLine(d.env, d.cfg.Batch, d.cfg.Config, id)
	d.mu.Lock()
	d.token = line.Token
	d.mu.Unlock()
	return d.control(line)
}

// Token is that of the last init line.
func (d *Dialog) Token() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.token
}

// Assign sends an assign line.
func (d *Dialog) Assign(id string, a Assignment) error { return d.control(newAssignLine(a, id)) }

// Revoke sends a revoke line.
func (d *Dialog) Revoke(id string, a Assignment, reason string) error {
	return d.control(newRevokeLine(a, reason, id))
}

// Stop sends the stop line, after which stdin is closed.
func (d *Dialog) Stop(id string) { d.c.sayStop(id) }

// Message sends a message line.
func (d *Dialog) Message(m *Message) error {
	line, err := EncodeMessage(m)
	if err != nil {
		return err
	}
	return d.Say(line)
}

// Say sends a line as it is; its end is part of it.
func (d *Dialog) Say(line []byte) error {
	if !d.c.say(line) {
		return ErrChildEnded
	}
	return nil
}

func (d *Dialog) control(line any) error {
	text, err := encodeLine(line)
	if err != nil {
		return err
	}
	return d.Say(text)
}

// PID is the child's process id, and its process group's.
func (d *Dialog) PID() int { return d.c.pid }

// Terminate asks the child's process group to end, as the second step of a stop.
func (d *Dialog) Terminate() {
	d.c.signal(unix.SIGTERM)
}

// Kill ends the child's process group and returns when it is dead.
func (d *Dialog) Kill() {
	d.c.kill(&ending{how: stopped})
	<-d.c.dead
}

// Ended is closed when the child is dead and all that it said has been heard.
func (d *Dialog) Ended() <-chan struct{} { return d.c.dead }

// Ending says how the child ended, with the last lines of its stderr. It waits for the end.
func (d *Dialog) Ending() string {
	<-d.c.dead
	return d.c.withStderr(d.c.cmd.ProcessState.String())
}

// Succeeded reports whether the child ended with status 0. It waits for the end.
func (d *Dialog) Succeeded() bool {
	<-d.c.dead
	return d.c.cmd.ProcessState.Success()
}

// LastWords is the end of what the child has written to stderr.
func (d *Dialog) LastWords() string { return d.c.out.last() }
