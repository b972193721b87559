package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// ask shows a prompt and reads the answer at the terminal. At ^C it returns at once, with an error that ends the
// command with exitInterrupted. The goroutine that reads is left then: nothing ends a read from a terminal, and the
// process is about to end.
func (a *App) ask(ctx context.Context, prompt string, read func() ([]byte, error)) ([]byte, error) {
	type reply struct {
		text []byte
		err  error
	}
	fmt.Fprint(a.Err, prompt)
	answered := make(chan reply, 1)
	go func() {
		text, err := read()
		answered <- reply{text, err}
	}()
	select {
	case r := <-answered:
		return r.text, r.err
	case <-ctx.Done():
		fmt.Fprintln(a.Err)
		return nil, failure(exitInterrupted, "", "interrupted: nothing was done")
	}
}

// askYes asks whether to continue. Any answer but yes, also the end of the input, is a refusal.
func (a *App) askYes(ctx context.Context, question string) error {
	answer, err := a.ask(ctx, question+" Type yes: ", func() ([]byte, error) {
		return bufio.NewReader(a.In).ReadBytes('\n')
	})
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(string(answer)) != "yes" {
		return failure(exitFailed, "", "nothing was done")
	}
	return nil
}

// askPassword reads from the terminal without showing what is typed, and leaves the terminal as it was.
func (a *App) askPassword(ctx context.Context, prompt string) ([]byte, error) {
	fd := int(a.In.(*os.File).Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("read the password: %w", err)
	}
	password, err := a.ask(ctx, prompt, func() ([]byte, error) { return term.ReadPassword(fd) })
	if ctx.Err() != nil {
		return nil, errors.Join(err, term.Restore(fd, before))
	}
	fmt.Fprintln(a.Err)
	if err != nil {
		return nil, fmt.Errorf("read the password: %w", err)
	}
	return password, nil
}
