package subprocess

import (
	"errors"
	"fmt"
	"sync"

	"leasehold/worker/handler"
	"leasehold/worker/handler/wire"

	"golang.org/x/sys/unix"
)

// ErrChildEnded says that a child takes no more lines: it is dead or dying, or was told to stop.
var ErrChildEnded = errors.New("handler child has ended")

// Probe is one run of a subprocess handler's child, for checks of the child itself: the caller writes its lines, in any
// order, valid or not, and judges every reply. A Handler would never write an invalid line, and would ignore an invalid
// reply. The process runs exactly as on a node: in its own group, with a clean environment, and it dies with us.
//
// Methods can be called from several goroutines.
type Probe struct {
	cfg Config
	env handler.Env
	c   *child

	mu    sync.Mutex
	token string // Of the last init line.
}

// StartProbe starts a child and sends it nothing. Each line of its stdout goes to heard, from one goroutine; the line
// is only valid during the call.
func StartProbe(cfg Config, env handler.Env, heard func(line []byte)) (*Probe, error) {
	cfg, err := handler.Complete(cfg)
	if err != nil {
		return nil, err
	}
	c, err := spawn(cfg.program().Cmd(env.Lock), env.LoggerFor(kindName), heard)
	if err != nil {
		return nil, fmt.Errorf("start handler child: %w", err)
	}
	return &Probe{cfg: cfg, env: env, c: c}, nil
}

// Init sends the init line.
func (d *Probe) Init(id string) error {
	line := wire.NewInitLine(d.env, d.cfg.Batch, d.cfg.Config, id)
	d.mu.Lock()
	d.token = line.Token
	d.mu.Unlock()
	return d.control(line)
}

// Token is that of the last init line.
func (d *Probe) Token() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.token
}

// Assign sends an assign line.
func (d *Probe) Assign(id string, a handler.Assignment) error {
	return d.control(wire.NewAssignLine(a, id))
}

// Revoke sends a revoke line.
func (d *Probe) Revoke(id string, a handler.Assignment, reason string) error {
	return d.control(wire.NewRevokeLine(a, reason, id))
}

// Stop sends the stop line, after which stdin is closed.
func (d *Probe) Stop(id string) { d.c.sendStop(id) }

// Message sends a message line.
func (d *Probe) Message(m *handler.Message) error {
	line, err := wire.EncodeMessage(m)
	if err != nil {
		return err
	}
	return d.Say(line)
}

// Say sends a line as it is; its end is part of it.
func (d *Probe) Say(line []byte) error {
	if !d.c.sendLine(line) {
		return ErrChildEnded
	}
	return nil
}

func (d *Probe) control(line any) error {
	text, err := wire.EncodeLine(line)
	if err != nil {
		return err
	}
	return d.Say(text)
}

// PID is the child's process id, and its process group's.
func (d *Probe) PID() int { return d.c.Pid }

// Terminate asks the child's process group to end, as the second step of a stop.
func (d *Probe) Terminate() {
	d.c.Signal(unix.SIGTERM)
}

// Kill ends the child's process group and returns when it is dead.
func (d *Probe) Kill() {
	d.c.kill(&exitCause{kind: stopped})
	<-d.c.dead
}

// Ended is closed when the child is dead and all of its output has been read.
func (d *Probe) Ended() <-chan struct{} { return d.c.dead }

// Ending says how the child ended, with the last lines of its stderr. It waits for the end.
func (d *Probe) Ending() string {
	<-d.c.dead
	return d.c.withStderr(d.c.Cmd.ProcessState.String())
}

// Succeeded reports whether the child ended with status 0. It waits for the end.
func (d *Probe) Succeeded() bool {
	<-d.c.dead
	return d.c.Cmd.ProcessState.Success()
}

// LastWords returns the last lines that the child wrote to stderr.
func (d *Probe) LastWords() string { return d.c.out.Last() }
