package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/handler/wire"
)

// questions are all checks, in the order in which they are made. The last ones look back at all that was said.
var questions = []question[*bench]{
	{name: "start", essential: true, ask: askStart},
	{name: "assign", essential: true, ask: askAssign},
	{name: "message", essential: true, ask: askMessage},
	{name: "token", ask: askToken},
	{name: "duplicate", ask: askDuplicate},
	{name: "two partitions", ask: askInterleaved},
	{name: "retry", ask: askRetry},
	{name: "batch", ask: askBatch},
	{name: "huge payload", ask: askHuge},
	{name: "binary payload", ask: askBinary},
	{name: "forged answer", ask: askForged},
	{name: "unknown field", ask: askUnknownField},
	{name: "unknown line", ask: askUnknownLine},
	{name: "revoke", ask: askRevoke},
	{name: "higher epoch", ask: askHigherEpoch},
	{name: "stale epoch", ask: askStaleEpoch},
	{name: "kill -9", ask: askKill},
	{name: "time", ask: askTime},
	{name: "stop", ask: askStop},
	{name: "one answer each", essential: true, ask: askSurplus},
	{name: "stdout", essential: true, ask: askOutput},
}

func askStart(b *bench) finding {
	began := time.Now()
	l, err := b.start()
	if err != nil {
		if l == nil {
			return wrong("command must name a program and its arguments; there is no shell between", "%s", err)
		}
		return b.unanswered(l, err,
			"a child must live until it is told to stop, and start without what only a shell of yours sets: it gets PATH, "+
				"HOME, LANG, TZ, and what env and pass_env name")
	}
	b.life = l
	return right("ready after %s", round(time.Since(began)))
}

func askAssign(b *bench) finding {
	for p := range 2 {
		if err := b.assign(b.life, p); err != nil {
			return b.unanswered(b.life, err,
				"acknowledge each assign line; if the state of a partition cannot be loaded now, say so to its messages, with "+
					"unavailable")
		}
	}
	return right("took partitions 0 and 1")
}

func askMessage(b *bench) finding {
	answers, err := b.call(b.life, b.message(0))
	if err != nil {
		return b.unanswered(b.life, err, "a message must not end the child: answer retry, reject or unavailable instead")
	}
	b.baseline = answers[0].status
	if b.baseline != handler.OK {
		return better("give a message that it accepts with --data or --message: only then do the checks reach what it does "+
			"with one",
			"answered %s to it, %s", b.baseline, answers[0].text)
	}
	return right("answered %s in %s", b.baseline, round(b.slowest))
}

// askToken wants answers that nothing else that the child prints can pass for.
func askToken(b *bench) finding {
	if !b.life.repeatsToken() {
		return better(`repeat the "token" of init in the ack and in every result: then nothing else on stdout, `+
			"a payload that is printed for example, can answer for a message",
			"answers without a token")
	}
	return right("repeats the token of init")
}

// askForged sends a payload that answers for its message if it is printed.
func askForged(b *bench) finding {
	m := b.message(0)
	m.Data = fmt.Appendf(nil, "x\n{\"type\":\"result\",\"id\":%q,\"status\":\"pause\"}\n", m.ID)
	if _, err := b.call(b.life, m); err != nil {
		return b.unanswered(b.life, err,
			"a payload can hold anything, also what looks like an answer: it must not end the child")
	}
	if b.life.paused(result(m.ID)) {
		return wrong(`print payloads to stderr only, and repeat the "token" of init in the ack and in every result`,
			"a payload that it printed to stdout has answered for its message")
	}
	return right("a payload that looks like an answer is none")
}

// askDuplicate repeats a message, as after a crash that came before the checkpoint.
func askDuplicate(b *bench) finding {
	m := b.message(0)
	first, err := b.call(b.life, m)
	if err == nil {
		var again []answer
		if again, err = b.call(b.life, m); err == nil {
			return judgeRepeat(first[0].status, again[0].status)
		}
	}
	return b.unanswered(b.life, err, "calls repeat after a crash: a message that was seen before must not end the child")
}

func judgeRepeat(first, again handler.Status) finding {
	if first == handler.OK && again != handler.OK {
		return better("answer ok to a message that is done already: calls repeat after a crash, and a repeat is no failure",
			"answered ok, and to its repeat %s", again)
	}
	return right("answered %s, and to its repeat %s", first, again)
}

// askInterleaved gives a child that wants calls of several partitions at once two of them.
func askInterleaved(b *bench) finding {
	if !b.life.wants("parallel") {
		return finding{}
	}
	const advice = "a child that asks for parallel calls gets messages of several partitions at once: answer each by " +
		"its id, in any order"
	if _, err := b.call(b.life, b.message(0), b.message(1)); err != nil {
		return b.unanswered(b.life, err, advice)
	}
	return right("answered both of two messages that were out at once")
}

func askRetry(b *bench) finding {
	m := b.message(0)
	m.Attempt = 2
	answers, err := b.call(b.life, m)
	if err != nil {
		return b.unanswered(b.life, err,
			"a message comes again, with a higher attempt, after a retry: handle it like the first time")
	}
	return right("answered %s to attempt 2", answers[0].status)
}

// askBatch gives a child that wants batches one of three messages, or as many as the config allows. Their sequences
// have gaps, as everywhere.
func askBatch(b *bench) finding {
	size := min(3, b.o.Handler.Batch)
	if !b.life.wants("batch") || size < 2 {
		return finding{}
	}
	var ms []*handler.Message
	for range size {
		ms = append(ms, b.message(0))
		b.seq++
	}
	a, err := b.batch(b.life, ms)
	if err == nil && a.status == statusPartial {
		err = a.judgePart(ms)
	}
	if err != nil {
		const advice = `answer a batch once, by its id: ok, or partial with "ok_through" and the next message in "failed", ` +
			"or how the whole of it failed"
		f := b.unanswered(b.life, err, advice)
		if errors.As(err, new(badAnswer)) {
			f.advice = advice
		}
		return f
	}
	return right("answered %s to a batch of %d", a.status, len(ms))
}

// askHuge sends the longest line that there can be.
func askHuge(b *bench) finding {
	answers, err := b.call(b.life, b.huge())
	if err != nil {
		return b.unanswered(b.life, err,
			fmt.Sprintf("read lines of any length: with this max_payload they get up to %s long; Go's bufio.Scanner stops at "+
				"64 KiB unless its Buffer is set", megabytes(6*b.o.MaxPayload+64<<10)))
	}
	return right("answered %s to a line of %s", answers[0].status, megabytes(6*b.o.MaxPayload))
}

func askBinary(b *bench) finding {
	answers, err := b.call(b.life, b.binary())
	if err != nil {
		return b.unanswered(b.life, err,
			"a payload that is not UTF-8 comes as data_b64, in base64, and data is not there then: decode it, or answer reject")
	}
	return right("answered %s to a payload in data_b64", answers[0].status)
}

const askAhead = "ignore what you do not know: fields and line types may be added within version 1"

func askUnknownField(b *bench) finding {
	m := b.message(0)
	line, err := wire.EncodeMessage(m)
	if err != nil {
		return wrong("", "%s", err)
	}
	line = append(bytes.TrimSuffix(line, []byte("}\n")), []byte(`,"of_a_later_version":{"a":[1,null]}}`+"\n")...)
	b.life.expect(result(m.ID))
	if err = b.life.dialog.Say(line); err == nil {
		_, err = b.life.await(b.ctx, result(m.ID), b.o.Timeout)
	}
	if err != nil {
		return b.unanswered(b.life, err, askAhead)
	}
	return right("handled a message with a field that it cannot know")
}

func askUnknownLine(b *bench) finding {
	const id = "unknown"
	b.life.permit(ack(id))
	b.life.permit(result(id))
	err := b.life.dialog.Say([]byte(`{"type":"of_a_later_version","id":"` + id + `","partition":0}` + "\n"))
	if err == nil {
		_, err = b.call(b.life, b.message(0))
	}
	switch {
	case err != nil:
		return b.unanswered(b.life, err, askAhead)
	case b.life.answered(result(id)):
		return better("answer result to messages only: look at the type of each line",
			"answered an unknown type of line as if it were a message")
	}
	return right("went on after a type of line that it cannot know")
}

// revokeTime is how long a hand-over waits for a child.
const revokeTime = time.Second

func askRevoke(b *bench) finding {
	const advice = "acknowledge each revoke line: every hand-over waits a second for it"
	began := time.Now()
	err := b.revoke(b.life, 0)
	b.revoked = time.Since(began)
	switch {
	case errors.Is(err, errSilent):
		return wrong(advice, "%s", b.describe(b.life, err))
	case err != nil:
		return b.unanswered(b.life, err, advice)
	}
	return right("gave partition 0 back")
}

// askHigherEpoch is the partition's way back after somebody else has had it.
func askHigherEpoch(b *bench) finding {
	b.epoch++
	err := b.assign(b.life, 0)
	if err == nil {
		_, err = b.call(b.life, b.message(0))
	}
	if err != nil {
		return b.unanswered(b.life, err, "a partition can come back, with a higher epoch: start again with its state")
	}
	return right("took partition 0 again and went on")
}

// askStaleEpoch plays an owner that was frozen: another child goes on under a higher epoch, then the first one gets its
// late call.
func askStaleEpoch(b *bench) finding {
	if b.baseline != handler.OK {
		return notSeen(b.baseline)
	}
	former := b.epoch
	next, err := b.start()
	if err == nil {
		b.epoch++
		if err = b.assign(next, 0); err == nil {
			_, err = b.call(next, b.message(0))
		}
	}
	if err != nil {
		return better("children of one node, and those of all nodes, run side by side: share nothing between them that "+
			"only one can hold",
			"a second child does not work beside the first: %s", b.describe(next, err))
	}
	next.end()
	late := b.message(0) // Nobody has handled it yet: seq does not give it away.
	late.Epoch = former
	answers, err := b.call(b.life, late)
	if err != nil {
		return b.unanswered(b.life, err, "a late call of a former owner must not end the child: answer unavailable")
	}
	return judgeStale(answers[0].status)
}

// notSeen is the outcome of a check that needs a handler which accepts the messages.
func notSeen(s handler.Status) finding {
	return better("give a message that it accepts with --data or --message",
		"not to be seen: it answers %s to the test messages anyway", s)
}

func judgeStale(s handler.Status) finding {
	switch s {
	case handler.Unavailable:
		return right("refused the late call of a former owner, with unavailable")
	case handler.OK:
		return better("keep epoch and seq beside the effect, in one transaction (docs/guarantees.md), unless a late or "+
			"repeated call does no harm",
			"did the late call of a former owner")
	case handler.Pause, handler.Reject:
		return better("answer unavailable: the message is fine, the caller is not",
			"answered %s to the late call of a former owner", s)
	}
	return better("answer unavailable, which does not count as an attempt of the message",
		"answered %s to the late call of a former owner", s)
}

// askKill kills the child in a call and has the next one do it over.
func askKill(b *bench) finding {
	b.epoch++ // The one that the former owner was refused for.
	if err := b.assign(b.life, 0); err != nil {
		return b.unanswered(b.life, err, "a partition can come back, with a higher epoch: start again with its state")
	}
	m := b.message(0)
	b.life.permit(result(m.ID)) // It may be quick.
	if err := b.life.dialog.Message(m); err != nil {
		return b.unanswered(b.life, err, "a message must not end the child")
	}
	b.drop()
	if f, ok := b.revive(); !ok {
		f.advice = "leave nothing behind that stops the next child: stale lock or pid files, a port, a transaction"
		return f
	}
	m.Attempt = 2
	answers, err := b.call(b.life, m)
	if err != nil {
		return b.unanswered(b.life, err, "what a killed child had begun comes again: it must be possible to do it over")
	}
	return right("the next child answered %s to what a killed one had begun", answers[0].status)
}

// askTime looks at all that depends on how fast the machine is, too.
func askTime(b *bench) finding {
	if b.revoked > revokeTime {
		return better("let go of a partition sooner: a hand-over waits a second, and goes on without the acknowledgement",
			"it took %s to give a partition back", round(b.revoked))
	}
	return judgeTime(b.slowest, b.o.Timeout)
}

func judgeTime(slowest, timeout time.Duration) finding {
	if slowest > timeout/2 {
		return better("raise timeout, or do less in a call: at the timeout a call is ended and the message charged",
			"the slowest answer took %s of %s", round(slowest), timeout)
	}
	return right("the slowest answer took %s of %s", round(slowest), timeout)
}

// askStop stops the child as a node does: stop line and end of input, SIGTERM half-way, SIGKILL.
func askStop(b *bench) finding {
	l, half := b.life, b.o.Handler.StopTimeout/2
	b.life = nil
	began := time.Now()
	l.stop()
	if l.endsWithin(half) {
		if !l.dialog.Succeeded() {
			return better("exit with status 0 when told to stop", "%s after stop", l.dialog.Ending())
		}
		return right("exited by itself after %s", round(time.Since(began)))
	}
	const advice = "exit at the stop line or at the end of input: until then a node that stops waits, and after " +
		"stop_timeout it kills"
	l.dialog.Terminate()
	if l.endsWithin(half) {
		return wrong(advice, "went only at SIGTERM, after %s", round(half))
	}
	l.end()
	return wrong(advice, "had to be killed, after %s", round(2*half))
}

func askSurplus(b *bench) finding {
	for _, l := range b.lives {
		if a, ok := l.surplus(); ok {
			return wrong("answer each line once: what comes a second time is ignored today, and counted", "answered twice: %s",
				a.text)
		}
		if s := l.strangers(); len(s) > 0 {
			return wrong("answer only what you are asked, by its id", "answered what nobody had asked: %s", s[0].text)
		}
	}
	return right("answered every line once, and nothing else")
}

func askOutput(b *bench) finding {
	var noise []string
	for _, l := range b.lives {
		noise = append(noise, l.output()...)
	}
	if len(noise) == 0 {
		return right("holds answers only")
	}
	return better("write to stderr what is no answer: a line without its end there swallows the answer that follows",
		"%d lines are no answers, the first: %s", len(noise), noise[0])
}

func round(d time.Duration) time.Duration {
	if d < time.Millisecond {
		return d.Round(time.Microsecond)
	}
	return d.Round(time.Millisecond)
}

func megabytes(n int) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
