package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/handler/subprocess"
	"leasehold/worker/handler/wire"
)

// bench holds a subprocess handler while it is asked. One goroutine uses it.
type bench struct {
	source
	ctx   context.Context
	life  *life   // The child that works; nil if the last one is of no use any more.
	lives []*life // All of them, for what is only known in the end.

	baseline handler.Status // How it answers a plain message.
	batches  int
	slowest  time.Duration // Answer to a message.
	revoked  time.Duration // How long it took to give a partition back.
}

// Subprocess checks a subprocess handler. An error is never about the handler: the context has ended.
func Subprocess(ctx context.Context, o Options) (*Report, error) {
	o.Handler = o.Handler.Defaulted().(subprocess.Config)
	b := &bench{source: newSource(o), ctx: ctx}
	defer b.close()
	return survey(ctx, o.Found, questions, b.ask)
}

func (b *bench) close() {
	for _, l := range b.lives {
		l.end()
	}
}

// drop ends the present child.
func (b *bench) drop() {
	if b.life != nil {
		b.life.end()
		b.life = nil
	}
}

// ask asks a question. Unless it is essential, it finds a child that is ready and holds partitions 0 and 1.
func (b *bench) ask(q question[*bench]) finding {
	if !q.essential && b.life == nil {
		if f, ok := b.revive(); !ok {
			return f
		}
	}
	f := q.ask(b)
	if f.verdict == Wrong {
		b.drop() // What it says from now on may belong to this check.
	}
	return f
}

// revive gets a new child ready.
func (b *bench) revive() (finding, bool) {
	l, err := b.start()
	if err == nil {
		b.life = l
		for p := range 2 {
			err = errors.Join(err, b.assign(l, p))
		}
	}
	if err != nil {
		b.drop()
		return wrong(
			"a child that does not start again keeps its partitions waiting; it is asked this after an earlier check ended "+
				"its predecessor",
			"no new child gets ready: %s", b.describe(l, err)), false
	}
	return finding{}, true
}

// start starts a child and waits until it is ready.
func (b *bench) start() (*life, error) {
	l, err := begin(b.o)
	if err != nil {
		return nil, err
	}
	b.lives = append(b.lives, l)
	if err := b.control(l, b.o.Handler.StartTimeout, l.dialog.Init); err != nil {
		return l, err
	}
	return l, l.takeToken()
}

// assign gives a child a partition under the present epoch.
func (b *bench) assign(l *life, partition int) error {
	return b.control(l, b.o.Handler.StartTimeout, func(id string) error {
		return l.dialog.Assign(id, b.assignment(partition))
	})
}

func (b *bench) assignment(partition int) handler.Assignment {
	return handler.Assignment{Partition: partition, Epoch: b.epoch, NextSeq: b.seq + 1}
}

// revoke takes a partition from a child.
func (b *bench) revoke(l *life, partition int) error {
	return b.control(l, b.o.Timeout, func(id string) error {
		return l.dialog.Revoke(id, b.assignment(partition), "rebalance")
	})
}

// control says a control line and waits for its acknowledgement.
func (b *bench) control(l *life, limit time.Duration, say func(id string) error) error {
	id := l.nextID()
	l.expect(ack(id))
	if err := say(id); err != nil {
		return err
	}
	_, err := l.await(b.ctx, ack(id), limit)
	return err
}

// call has a child handle messages, all said before the first answer is waited for, and returns the answers.
func (b *bench) call(l *life, ms ...*handler.Message) ([]answer, error) {
	sent := time.Now()
	for _, m := range ms {
		l.expect(result(m.ID))
		if err := l.dialog.Message(m); err != nil {
			return nil, err
		}
	}
	var answers []answer
	for i, m := range ms {
		// A plain child works on one after the other, each within its time.
		limit := time.Until(sent.Add(time.Duration(i+1) * b.o.Timeout))
		a, err := l.await(b.ctx, result(m.ID), limit)
		if err != nil {
			return answers, err
		}
		if len(ms) == 1 { // Else a part of it is waiting for another one's turn.
			b.slowest = max(b.slowest, time.Since(sent))
		}
		if a.fault == "" && a.status == statusPartial {
			a.fault = "only a batch can be done in part"
		}
		if a.fault != "" {
			return answers, badAnswer{a}
		}
		answers = append(answers, a)
	}
	return answers, nil
}

// batch has a child handle messages of partition 0 in one call.
func (b *bench) batch(l *life, ms []*handler.Message) (answer, error) {
	b.batches++
	id := fmt.Sprintf("b%d", b.batches)
	text := fmt.Appendf(nil, `{"type":"batch","id":%q,"partition":0,"epoch":%d,"messages":[`, id, b.epoch)
	for i, m := range ms {
		line, err := wire.EncodeMessage(m)
		if err != nil {
			return answer{}, err
		}
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, bytes.TrimSpace(line)...)
	}
	l.expect(result(id))
	if err := l.dialog.Say(append(text, "]}\n"...)); err != nil {
		return answer{}, err
	}
	a, err := l.await(b.ctx, result(id), b.o.Timeout)
	if err == nil && a.fault != "" {
		err = badAnswer{a}
	}
	return a, err
}

// badAnswer is an answer to the right message in the wrong form.
type badAnswer struct{ answer }

func (e badAnswer) Error() string { return e.fault }

// describe says what a child did instead of answering.
func (b *bench) describe(l *life, err error) string {
	var bad badAnswer
	switch {
	case l == nil:
		return err.Error()
	case errors.As(err, &bad):
		return fmt.Sprintf("answered %s: %s", bad.text, bad.fault)
	case errors.Is(err, errForeign):
		return fmt.Sprintf("answered %s, and nobody had asked that", l.strangers()[0].text)
	case errors.Is(err, errEnded), errors.Is(err, subprocess.ErrChildEnded):
		return "it ended: " + l.dialog.Ending()
	}
	text := err.Error()
	if noise := l.output(); len(noise) > 0 {
		text += "; on stdout: " + noise[len(noise)-1]
	}
	if last := l.dialog.LastWords(); last != "" {
		text += "; last stderr: " + last
	}
	return text
}

// unanswered turns what a child did instead of answering into a finding, with the advice that fits it.
func (b *bench) unanswered(l *life, err error, ended string) finding {
	advice := ended
	switch {
	case errors.As(err, new(badAnswer)) && !l.answered(ack("1")): // Of init.
		advice = `acknowledge init with its "token" as it is, and repeat it in every result; or leave it out`
	case errors.As(err, new(badAnswer)):
		advice = `answer {"type":"result","id":ID,"status":STATUS} with one of ok, retry, reject, unavailable, pause; ` +
			"all else counts as retry"
	case errors.Is(err, errForeign):
		advice = "copy the id of the line that you answer, and its kind: ack for control lines, result for messages"
	case errors.Is(err, errSilent):
		return b.silent(l)
	}
	return wrong(advice, "%s", b.describe(l, err))
}

// silent finds out why a child says nothing: one that does not flush says all of it at its end.
func (b *bench) silent(l *life) finding {
	said, mute := b.describe(l, errSilent), !l.hasSpoken()
	l.stop()
	if !l.endsWithin(b.o.Handler.StopTimeout) {
		l.end()
	}
	switch {
	case l.unsigned() > 0:
		return wrong(
			`repeat the "token" of init in every result line, or leave it out of the ack: without it a line is output`,
			"%s: it answered without the token that it had acknowledged", said)
	case !l.complete():
		return wrong("answer every init, assign, revoke and message line within its time; a child that does not is killed, "+
			"and the message charged", "%s in time", said)
	case mute:
		return wrong("flush stdout after every line: in Python print(…, flush=True), in C fflush, in Perl $| = 1",
			"it answered only when its input ended")
	}
	return wrong("raise timeout, or do less in a call: at the timeout the child is killed and the message charged",
		"it answered too late")
}
