package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	pretty "github.com/jedib0t/go-pretty/v6/text"

	"leasehold/internal/api"
	"leasehold/internal/cli/screen"
)

// redrawEvery is how often `status --watch` looks.
const redrawEvery = time.Second

// watchStatus refreshes the status until ctx ends, which is not a failure: it is how the user ends it. On a terminal it
// redraws in place; elsewhere each status follows the one before, with -o json as one line.
func (a *App) watchStatus(ctx context.Context, client *api.Client, f statusFlags) error {
	terminal := isTerminal(a.Out) && f.format != formatJSON
	if terminal {
		raw := screen.Of(a.Out).Raw()
		fmt.Fprint(raw, "\033[?25l")       // no cursor
		defer fmt.Fprint(raw, "\033[?25h") // and back
	}
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	for {
		s, err := client.Status(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := a.showLook(s, err, f, terminal); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// showLook shows one look. An agent that does not answer is shown too: it may be restarting.
func (a *App) showLook(s *api.Status, err error, f statusFlags, terminal bool) error {
	if err != nil && !errors.Is(err, api.ErrUnreachable) && !errors.Is(err, api.ErrNotYet) {
		return err
	}
	var text bytes.Buffer
	out := screen.Of(a.Out).Onto(&text) // A buffer takes everything.
	switch {
	case f.format == formatJSON && err != nil:
		_, _ = out.Write(jsonLine(map[string]string{"error": err.Error()}))
	case f.format == formatJSON:
		_, _ = out.Write(jsonLine(s))
	case err != nil:
		_ = out.Say(screen.Red, "NOT OK:", err.Error())
	default:
		_ = writeStatus(out, s, f.partitions)
	}
	if terminal {
		return a.redraw(time.Now().Format(time.DateTime) + "\n" + text.String())
	}
	if f.format != formatJSON {
		fmt.Fprintln(&text)
	}
	_, err = io.Copy(screen.Of(a.Out).Raw(), &text)
	return err
}

// redraw puts a text over the one before. What does not fit is left out: the terminal would scroll, and the top be
// lost.
func (a *App) redraw(text string) error {
	out := screen.Of(a.Out)
	width, height := out.Size()
	lines := strings.Split(strings.TrimRight(pretty.WrapHard(text, width), "\n"), "\n")
	if height > 1 && len(lines) > height-1 {
		lines = append(lines[:height-2], fmt.Sprintf("… %s more; make the window higher", count(len(lines)-height+2, "line")))
	}
	var b strings.Builder
	b.WriteString("\033[H") // home
	for _, line := range lines {
		b.WriteString(line + "\033[K\n") // clear to the end of the line: nothing flickers
	}
	b.WriteString("\033[J") // and all below
	_, err := io.WriteString(out.Raw(), b.String())
	return err
}

func jsonLine(v any) []byte {
	line, err := json.Marshal(v)
	if err != nil { // of a status: cannot be
		line = fmt.Appendf(nil, `{"error":%q}`, err)
	}
	return append(line, '\n')
}
