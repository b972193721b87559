package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"leasehold/internal/api"
)

// redrawEvery is how often `status --watch` looks.
const redrawEvery = time.Second

// watchStatus shows the status again and again until ctx ends, which is how a person ends it: that is no failure. On a
// terminal it redraws in place; else each look follows the one before, as one line of JSON if that is wanted.
func (a *App) watchStatus(ctx context.Context, client *api.Client, f statusFlags) error {
	terminal := isTerminal(a.Out) && f.format != formatJSON
	if terminal {
		fmt.Fprint(a.Out, "\033[?25l")       // no cursor
		defer fmt.Fprint(a.Out, "\033[?25h") // and back
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
	switch {
	case f.format == formatJSON && err != nil:
		text.Write(jsonLine(map[string]string{"error": err.Error()}))
	case f.format == formatJSON:
		text.Write(jsonLine(s))
	case err != nil:
		fmt.Fprintln(&text, "NOT OK:", err)
	default:
		writeStatus(&text, s, f.partitions)
	}
	if terminal {
		// Home, then each line followed by "clear to its end", then "clear below": nothing flickers.
		shown := bytes.ReplaceAll(text.Bytes(), []byte("\n"), []byte("\033[K\n"))
		_, err = fmt.Fprintf(a.Out, "\033[H%s\033[J", append(fmt.Appendf(nil, "%s\033[K\n", time.Now().Format(time.DateTime)), shown...))
		return err
	}
	if f.format != formatJSON {
		fmt.Fprintln(&text)
	}
	_, err = io.Copy(a.Out, &text)
	return err
}

func jsonLine(v any) []byte {
	line, err := json.Marshal(v)
	if err != nil { // of a status: cannot be
		line = fmt.Appendf(nil, `{"error":%q}`, err)
	}
	return append(line, '\n')
}
