package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"

	"leasehold/internal/cli/screen"
	"leasehold/internal/lines"
	"leasehold/partitioner/publisher"
)

// pubSummary is what `pub -o json` prints.
type pubSummary struct {
	Messages   int         `json:"messages"` // Read.
	Stored     int         `json:"stored"`
	Duplicate  int         `json:"duplicate"` // Stored before, under the same id.
	Refused    int         `json:"refused"`
	Unknown    int         `json:"unknown"`  // May be stored or not.
	NotSent    int         `json:"not_sent"` // Read and not sent, because publishing was stopped.
	LastSeq    uint64      `json:"last_seq"` // Highest sequence that was given.
	DurationMS int64       `json:"duration_ms"`
	Reasons    []pubReason `json:"reasons"`
	Stopped    string      `json:"stopped,omitempty"` // Why publishing ended before the input did.
}

// pubReason is why messages are refused or unknown.
type pubReason struct {
	Reason string `json:"reason"`
	Count  int    `json:"count"`
	Line   int    `json:"first_line,omitempty"`
}

// errUnknownResult stops publishing.
var errUnknownResult = errors.New("a result is unknown")

// pubTally counts results; its methods are called from several goroutines.
type pubTally struct {
	stop    context.CancelCauseFunc
	started time.Time

	mu      sync.Mutex // Guards what follows.
	sum     pubSummary
	reasons map[string]*pubReason // By lines.Reason.

	timedOut bool // --timeout has ended it
}

func newTally(stop context.CancelCauseFunc) *pubTally {
	return &pubTally{stop: stop, started: time.Now(), reasons: map[string]*pubReason{}}
}

// taken counts a message that was read.
func (t *pubTally) taken() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Messages++
}

// progress is how many messages have a result, and whether any has none yet.
func (t *pubTally) progress() (settled int, waiting bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	settled = t.sum.Stored + t.sum.Duplicate + t.sum.Refused + t.sum.Unknown + t.sum.NotSent
	return settled, settled < t.sum.Messages
}

func (t *pubTally) notSent() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.NotSent++
}

func (t *pubTally) refuse(line int, err error) {
	t.add(line, publisher.Result{Outcome: publisher.Refused, Err: err})
}

// add counts the result of one message.
func (t *pubTally) add(line int, r publisher.Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.LastSeq = max(t.sum.LastSeq, r.Sequence)
	switch r.Outcome {
	case publisher.Stored:
		t.sum.Stored++
		return
	case publisher.Duplicate:
		t.sum.Duplicate++
		return
	case publisher.Unknown:
		t.sum.Unknown++
		t.stop(errUnknownResult)
	default:
		if errors.Is(r.Err, publisher.ErrClosed) {
			t.sum.NotSent++
			return
		}
		t.sum.Refused++
	}
	t.because(line, r.Err)
}

func (t *pubTally) because(line int, err error) {
	text, same := "no reason given", ""
	if err != nil {
		text, same = plainError(err), lines.Reason(err)
	}
	if errors.Is(err, publisher.ErrClosed) {
		text = "no acknowledgement when it was given up: it may be stored, now or later"
		same = text
	}
	reason := t.reasons[same]
	if reason == nil {
		reason = &pubReason{Reason: text, Line: line}
		t.reasons[same] = reason
	}
	reason.Count++
	reason.Line = min(reason.Line, line)
}

// stopped notes why publishing ended early, if it did.
func (t *pubTally) stopped(ctx context.Context, err error, timeout time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case errors.Is(context.Cause(ctx), errUnknownResult):
		t.sum.Stopped = "a result is unknown, and later messages must not overtake it"
	case timedOut(ctx):
		t.sum.Stopped, t.timedOut = fmt.Sprintf("not everything was acknowledged within --timeout %s", timeout), true
	case ctx.Err() != nil:
		t.sum.Stopped = "interrupted"
	case err != nil:
		t.sum.Stopped = plainError(err)
	}
}

// summary is the final count, with the most frequent reasons first.
func (t *pubTally) summary() pubSummary {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sum
	s.DurationMS = time.Since(t.started).Milliseconds()
	s.Reasons = make([]pubReason, 0, len(t.reasons))
	for _, r := range t.reasons {
		s.Reasons = append(s.Reasons, *r)
	}
	slices.SortFunc(s.Reasons, func(a, b pubReason) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Line, b.Line))
	})
	return s
}

// reportPub prints the summary and turns it into the exit code.
func (a *App) reportPub(t *pubTally, format string) error {
	s := t.summary()
	if format == formatJSON {
		if err := printJSON(a.Out, s); err != nil {
			return err
		}
	} else {
		printPub(a.Out, s)
	}
	warnPub(a.Err, s)
	if t.timedOut {
		return &Error{Code: exitTimeout, Err: errors.New(s.Stopped), Shown: true}
	}
	return s.err()
}

// err is nil if everything is stored, now or before.
func (s pubSummary) err() error {
	there := s.Stored + s.Duplicate
	switch {
	case there == s.Messages && s.Stopped == "":
		return nil
	case there == 0:
		return &Error{Code: exitFailed, Err: errors.New("nothing was stored"), Shown: true}
	}
	return &Error{Code: exitPartly, Err: errors.New("not everything was stored"), Shown: true}
}

func printPub(w io.Writer, s pubSummary) {
	fmt.Fprintf(w, "stored %s, duplicate %s, refused %s, unknown %s", comma(s.Stored), comma(s.Duplicate),
		comma(s.Refused), comma(s.Unknown))
	if s.NotSent > 0 {
		fmt.Fprintf(w, ", not sent %s", comma(s.NotSent))
	}
	fmt.Fprintf(w, " (%s in %.1fs", count(s.Messages, "message"), float64(s.DurationMS)/1000)
	if s.LastSeq > 0 {
		fmt.Fprintf(w, ", last sequence %d", s.LastSeq)
	}
	fmt.Fprintln(w, ")")
}

func comma(n int) string { return humanize.Comma(int64(n)) }

// shownReasons is how many different reasons are printed.
const shownReasons = 5

// warnPub warns about results that need an explanation.
func warnPub(w io.Writer, s pubSummary) {
	for i, r := range s.Reasons {
		if i == shownReasons {
			fmt.Fprintf(w, "… and %s\n", count(len(s.Reasons)-i, "other reason"))
			break
		}
		fmt.Fprintf(w, "%s: %s", count(r.Count, "message"), r.Reason)
		if r.Line > 0 {
			fmt.Fprintf(w, " (first: line %d)", r.Line)
		}
		fmt.Fprintln(w)
	}
	if s.Duplicate*100 > s.Messages {
		fmt.Fprintf(w, "Warning: %s of %s had an id that was stored before and were not stored again; if they are not "+
			"repeats, the ids are not unique\n", comma(s.Duplicate), count(s.Messages, "message"))
	}
	if s.Stopped != "" {
		fmt.Fprintf(w, "Stopped: %s\nNext: run the same command again; with --id-field nothing is stored twice within the "+
			"topic's dedup_window\n", s.Stopped)
	}
}

// pubProgress shows how far publishing is, on a terminal.
type pubProgress struct{ bar *progressbar.ProgressBar }

func (a *App) pubProgress(input *pubInput) *pubProgress {
	if input.one != nil || !isTerminal(a.Err) {
		return &pubProgress{}
	}
	size := input.size
	if size == 0 {
		size = -1 // Unknown: a spinner.
	}
	return &pubProgress{bar: progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(screen.Of(a.Err).Raw()), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(), progressbar.OptionSetDescription("publishing"))}
}

func (p *pubProgress) show(read int64, t *pubTally) {
	if p.bar == nil {
		return
	}
	t.mu.Lock()
	stored := t.sum.Stored + t.sum.Duplicate
	t.mu.Unlock()
	if stored%97 == 0 {
		p.bar.Describe(progressText(stored, time.Since(t.started)))
	}
	_ = p.bar.Set64(read) // A progress bar that cannot be drawn is no reason to stop.
}

// progressText is how far publishing is, and how fast in messages: bytes say little to who counts messages.
func progressText(stored int, since time.Duration) string {
	text := "stored " + comma(stored)
	if perSecond := float64(stored) / since.Seconds(); since >= time.Second {
		text += " (" + comma(int(perSecond)) + " messages/s)"
	}
	return text
}

func (p *pubProgress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
