package cli

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"leasehold/internal/api"
	"leasehold/internal/brokererr"
	"leasehold/internal/cli/screen"
	"leasehold/internal/config"
)

// Exit codes: a contract with scripts.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2 // Wrong arguments or config.
	exitUnreachable = 3 // No agent answers.
	exitNotAllowed  = 4
	exitNotFound    = 5
	exitTimeout     = 6
	exitUnhealthy   = 10 // No quorum, or the node is starting; of status, anything that needs attention.
	exitUnsafe      = 11 // It would not be safe now.
	exitPartly      = 12 // Some of the work is done.
	exitHangup      = 128 + int(syscall.SIGHUP)
	exitInterrupted = 128 + int(syscall.SIGINT) // ^C at a question or while a command waited, as shells count it.
)

// Error ends a command with an exit code.
type Error struct {
	Code int
	Err  error
	Hint string // What to do next; may be empty.

	// Agent is the one that was asked, and by what it was found; may be empty.
	Agent string

	// Shown means that the command's own output says all of it already.
	Shown bool
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

func failure(code int, hint, format string, args ...any) *Error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...), Hint: hint}
}

// writeError says of a file that may not be written where another one can be chosen. Who runs the agent has no part in
// it.
func writeError(by string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &Error{Code: exitNotAllowed, Err: err, Hint: "change to a directory that you may write to, or name one with " +
			by}
	}
	return err
}

// usage is a command called in a way that cannot work.
func usage(format string, args ...any) *Error {
	return failure(exitUsage, "", format, args...)
}

// asError gives every error a code.
func asError(err error) *Error {
	var e *Error
	var c *config.Error
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &unknown):
		return &Error{Code: exitNotAllowed, Err: err,
			Hint: "give the CA with --tls-ca; on a node, `leasehold tls ca` prints it"}
	case errors.As(err, &c):
		return &Error{Code: exitUsage, Err: err, Hint: "fix the file; `leasehold config validate` checks it"}
	case errors.Is(err, fs.ErrPermission):
		return &Error{Code: exitNotAllowed, Err: err,
			Hint: "run this as the user or a member of the group that runs the agent"}
	case errors.Is(err, api.ErrWrongToken):
		return &Error{Code: exitNotAllowed, Err: err,
			Hint: "use the content of that node's http.token_file with --token-file or " + tokenVariable}
	case errors.Is(err, api.ErrNotAllowed):
		return &Error{Code: exitNotAllowed, Err: err,
			Hint: "give the token with --token-file, or ask on the node itself by its socket"}
	case errors.Is(err, api.ErrUnreachable):
		return &Error{Code: exitUnreachable, Err: err,
			Hint: "start it with `leasehold agent`, say where it is with --addr, --config or --context, or try leasehold out " +
				"with `leasehold agent --dev`"}
	case errors.Is(err, api.ErrBadRequest):
		return &Error{Code: exitUsage, Err: err}
	case errors.Is(err, api.ErrNotFound):
		return &Error{Code: exitNotFound, Err: err, Hint: "`leasehold status` lists what there is"}
	case errors.Is(err, api.ErrRefused):
		return &Error{Code: exitUnsafe, Err: err}
	case errors.Is(err, api.ErrNoQuorum):
		return noQuorum(err)
	case errors.Is(err, api.ErrNotYet):
		return &Error{Code: exitUnhealthy, Err: err,
			Hint: "the agent is starting, or a leader is being elected; try again in a moment"}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: exitTimeout, Err: err}
	}
	return &Error{Code: exitFailed, Err: err}
}

// noQuorum says what can be done without one.
func noQuorum(err error) *Error {
	return &Error{Code: exitUnhealthy, Err: err,
		Hint: "start the nodes that do not answer; meanwhile `leasehold tap TOPIC --local` and " +
			"`leasehold dlq list GROUP --local` read what this node holds (docs/operations.md, Two of three nodes are gone)"}
}

// plainError is an error's text as it is shown to an operator.
func plainError(err error) string { return brokererr.Text(err) }

// printError tells a person, or a program, what went wrong.
func printError(w io.Writer, e *Error, asJSON bool) {
	switch {
	case e.Shown:
	case asJSON:
		printErrorJSON(w, e)
	default:
		first, rest, _ := strings.Cut(plainError(e.Err), "\n")
		_ = screen.Of(w).Say(screen.Red, "Error:", first) // There is nobody left to tell.
		if rest != "" {                                   // Indented: no line of it may look like one of ours.
			fmt.Fprintln(w, "  "+strings.ReplaceAll(rest, "\n", "\n  "))
		}
		if e.Agent != "" {
			_ = screen.Of(w).Say(screen.Plain, "Agent:", e.Agent)
		}
		if e.Hint != "" {
			_ = screen.Of(w).Say(screen.Strong, "Next:", e.Hint)
		}
	}
}

func printErrorJSON(w io.Writer, e *Error) {
	body := struct {
		Error  string         `json:"error"`
		Code   int            `json:"code"`
		Hint   string         `json:"hint,omitempty"`
		Agent  string         `json:"agent,omitempty"`
		File   string         `json:"file,omitempty"`
		Faults []config.Fault `json:"faults,omitempty"`
	}{Error: plainError(e.Err), Code: e.Code, Hint: e.Hint, Agent: e.Agent}
	var c *config.Error
	if errors.As(e.Err, &c) {
		body.File, body.Faults = c.File, c.Faults
	}
	_ = json.NewEncoder(w).Encode(body) // There is nobody left to tell.
}
