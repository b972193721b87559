package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"leasehold/internal/jsondata"
	"leasehold/worker/handler"
	"leasehold/worker/handler/subprocess"
)

// line identifies an answer: what kind of one, and to what.
type line struct{ kind, id string }

func ack(id string) line { return line{"ack", id} }

func result(id string) line { return line{"result", id} }

// answer is an answer of the child.
type answer struct {
	line
	status handler.Status
	fault  string // What is wrong with its form; empty if nothing is.
	text   string // As it was written, cut.
	body   body
}

// body is what an answer holds besides its kind and id.
type body struct {
	Status    *handler.Status
	Reason    string
	AfterMS   *float64 `json:"after_ms"`
	Wants     []string
	Token     string
	OKThrough *uint64 `json:"ok_through"`
	Failed    *struct {
		Seq     uint64
		Status  handler.Status
		Reason  string
		AfterMS *float64 `json:"after_ms"`
	}
}

// statusPartial is an answer to a batch of which only a beginning succeeded.
const statusPartial handler.Status = "partial"

// life is one life of a child, and all that was said in it.
type life struct {
	dialog *subprocess.Probe

	nextLine int // Id of the next control line; for the bench's goroutine.

	mu      sync.Mutex
	changed chan struct{}     // Closed and made anew with every line heard.
	asked   map[line]int      // How often an answer is due.
	welcome map[line]bool     // May be answered and need not be.
	heard   map[line][]answer // What came, in order.
	foreign []answer          // What nobody had asked.
	token   string            // What results must repeat, as in its ack of init; empty: nothing.
	missing int               // Results without it, which a node takes for output.
	noise   []string          // What is no answer at all, cut.
}

func begin(o Options) (*life, error) {
	l := &life{
		changed: make(chan struct{}), asked: make(map[line]int), welcome: make(map[line]bool), heard: make(map[line][]answer),
	}
	var err error
	l.dialog, err = subprocess.StartProbe(o.Handler, o.Env, l.hear)
	return l, err
}

// hear takes a line of the child's stdout.
func (l *life) hear(text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text = jsondata.TrimBOM(text) // As a node does.
	switch a, ok := parse(text); {
	case !ok && len(bytes.TrimSpace(text)) == 0:
	case !ok:
		l.noise = append(l.noise, shown(text))
	case a.kind == "result" && a.body.Token != l.token && l.token != "":
		l.missing++
		l.noise = append(l.noise, shown(text))
	case l.asked[a.line] == 0 && !l.welcome[a.line]:
		l.foreign = append(l.foreign, a)
	default:
		l.heard[a.line] = append(l.heard[a.line], a)
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// shown is a line for people, cut, with anything that could upset a terminal escaped.
func shown(text []byte) string {
	const limit = 160
	end := ""
	if len(text) > limit {
		text, end = text[:limit], "…"
	}
	line := string(bytes.ToValidUTF8(text, []byte("?")))
	if strings.ContainsFunc(line, func(r rune) bool { return !strconv.IsPrint(r) }) {
		line = strconv.Quote(line)
	}
	return line + end
}

// parse reads an answer, more strictly than a node does: a node copes with what it can.
func parse(text []byte) (answer, bool) {
	var head struct{ Type, ID string }
	if json.Unmarshal(text, &head) != nil || (head.Type != "ack" && head.Type != "result") {
		return answer{}, false
	}
	a := answer{line: line{head.Type, head.ID}, text: shown(text)}
	err := json.Unmarshal(text, &a.body)
	switch {
	case err != nil:
		a.fault = err.Error()
	case head.Type == "ack":
	case a.body.Status == nil:
		a.fault = "it has no status"
	case !known(*a.body.Status) && *a.body.Status != statusPartial:
		a.fault = fmt.Sprintf("status %q does not exist", *a.body.Status)
	case a.body.AfterMS != nil && *a.body.AfterMS < 0:
		a.fault = "after_ms is negative"
	default:
		a.status = *a.body.Status
	}
	return a, true
}

// judgePart looks at a partial answer to a batch: it names the last message that is done and the one after it.
func (a answer) judgePart(ms []*handler.Message) error {
	done := 0
	if a.body.OKThrough != nil {
		if *a.body.OKThrough > ms[len(ms)-1].Seq {
			return a.bad("ok_through is behind the batch")
		}
		for done < len(ms) && ms[done].Seq <= *a.body.OKThrough {
			done++
		}
	}
	f := a.body.Failed
	switch {
	case f == nil && done == 0:
		return a.bad("neither ok_through nor failed names a message of the batch")
	case f == nil:
		return nil
	case done == len(ms) || f.Seq != ms[done].Seq:
		return a.bad("failed.seq must be the message after ok_through")
	case !known(f.Status) || f.Status == handler.OK:
		return a.bad(fmt.Sprintf("failed has status %q, which says nothing of a failure", f.Status))
	}
	return nil
}

func (a answer) bad(fault string) error {
	a.fault = fault
	return badAnswer{a}
}

// known reports whether a handler may answer with the status. Timeout is not for it to say.
func known(s handler.Status) bool {
	switch s {
	case handler.OK, handler.Retry, handler.Reject, handler.Unavailable, handler.Pause:
		return true
	}
	return false
}

// nextID is an id for a control line.
func (l *life) nextID() string {
	l.nextLine++
	return strconv.Itoa(l.nextLine - 1)
}

// stop says stop. It may be acknowledged.
func (l *life) stop() {
	id := l.nextID()
	l.permit(ack(id))
	l.dialog.Stop(id)
}

// expect notes that an answer is due. It comes before the line is said, lest the answer come first.
func (l *life) expect(what line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked[what]++
}

// permit notes an answer that may come.
func (l *life) permit(what line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.welcome[what] = true
}

// What came instead of an answer.
var (
	errSilent  = errors.New("no answer")
	errEnded   = errors.New("the child ended")
	errForeign = errors.New("an answer to something else")
)

// await waits until every answer due to the line has come, and returns the last one.
func (l *life) await(ctx context.Context, what line, limit time.Duration) (answer, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	ended := l.dialog.Ended()
	for {
		l.mu.Lock()
		heard, changed := l.heard[what], l.changed
		done, foreign := len(heard) > 0 && len(heard) >= l.asked[what], len(l.foreign)
		l.mu.Unlock()
		switch {
		case done:
			return heard[len(heard)-1], nil
		case foreign > 0:
			return answer{}, errForeign
		case ended == nil: // All that it said has been looked at.
			return answer{}, errEnded
		}
		select {
		case <-changed:
		case <-ended:
			ended = nil
		case <-timer.C:
			return answer{}, errSilent
		case <-ctx.Done():
			return answer{}, context.Cause(ctx)
		}
	}
}

// complete reports whether every answer that was due has come.
func (l *life) complete() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for what, due := range l.asked {
		if len(l.heard[what]) < due {
			return false
		}
	}
	return true
}

// surplus is the first answer that came more often than it was due.
func (l *life) surplus() (answer, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for what, answers := range l.heard {
		if due := l.asked[what]; due > 0 && len(answers) > due {
			return answers[due], true
		}
	}
	return answer{}, false
}

// strangers is what came that was not asked for.
func (l *life) strangers() []answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.foreign
}

// output is what came on stdout that was no answer.
func (l *life) output() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.noise
}

// wants reports whether the acknowledgement of init, the first line, asks for something.
func (l *life) wants(what string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	inits := l.heard[ack("0")]
	return len(inits) > 0 && slices.Contains(inits[0].body.Wants, what)
}

// takeToken has results repeat the token that the acknowledgement of init has. One that is not that of init is an
// error.
func (l *life) takeToken() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.heard[ack("0")][0]
	if a.body.Token != "" && a.body.Token != l.dialog.Token() {
		return a.bad("its token is not that of init")
	}
	l.token = a.body.Token
	return nil
}

// repeatsToken reports whether the child has acknowledged the token.
func (l *life) repeatsToken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token != ""
}

// unsigned is how many results had no token and should have.
func (l *life) unsigned() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.missing
}

// paused reports whether an answer with the status pause came.
func (l *life) paused(what line) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.heard[what], func(a answer) bool { return a.status == handler.Pause })
}

// hasSpoken reports whether anything was answered yet.
func (l *life) hasSpoken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.heard) > 0
}

// answered reports whether an answer has come.
func (l *life) answered(what line) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.heard[what]) > 0
}

// endsWithin reports whether the child ends by itself within the limit.
func (l *life) endsWithin(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-l.dialog.Ended():
		return true
	case <-timer.C:
		return false
	}
}

// end kills the child, if it still lives.
func (l *life) end() { l.dialog.Kill() }
