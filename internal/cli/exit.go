package cli

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"leasehold/internal/api"
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
	exitUnhealthy   = 10
	exitUnsafe      = 11  // It would not be safe now.
	exitPartly      = 12  // Some of the work is done.
	exitInterrupted = 130 // ^C at a question, as shells count it.
)

// Error ends a command with an exit code.
type Error struct {
	Code int
	Err  error
	Hint string // What to do next; may be empty.

	// Shown means that the command's own output says all of it already.
	Shown bool
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

func failure(code int, hint, format string, args ...any) *Error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...), Hint: hint}
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
		return &Error{Code: exitNotAllowed, Err: err, Hint: "give the CA with --tls-ca; on a node, `leasehold tls ca` prints it"}
	case errors.As(err, &c):
		return &Error{Code: exitUsage, Err: err, Hint: "correct the file; `leasehold config validate` checks it"}
	case errors.Is(err, fs.ErrPermission):
		return &Error{Code: exitNotAllowed, Err: err, Hint: "run this as the user or a member of the group that runs the agent"}
	case errors.Is(err, api.ErrNotAllowed):
		return &Error{Code: exitNotAllowed, Err: err, Hint: "give the token with --token-file, or ask on the node itself by its socket"}
	case errors.Is(err, api.ErrUnreachable):
		return &Error{Code: exitUnreachable, Err: err, Hint: "start it with `leasehold agent`, or say where it is with --addr or --config"}
	case errors.Is(err, api.ErrBadRequest):
		return &Error{Code: exitUsage, Err: err}
	case errors.Is(err, api.ErrNotFound):
		return &Error{Code: exitNotFound, Err: err, Hint: "`leasehold status` lists what there is"}
	case errors.Is(err, api.ErrRefused):
		return &Error{Code: exitUnsafe, Err: err}
	case errors.Is(err, api.ErrNotYet):
		return &Error{Code: exitUnhealthy, Err: err, Hint: "the agent is starting or has no quorum; try again in a moment"}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: exitTimeout, Err: err}
	}
	return &Error{Code: exitFailed, Err: err}
}

// printError tells a person, or a program, what went wrong.
func printError(w io.Writer, e *Error, asJSON bool) {
	switch {
	case e.Shown:
	case asJSON:
		printErrorJSON(w, e)
	default:
		fmt.Fprintf(w, "Error: %s\n", e.Err)
		if e.Hint != "" {
			fmt.Fprintf(w, "Next: %s\n", e.Hint)
		}
	}
}

func printErrorJSON(w io.Writer, e *Error) {
	body := struct {
		Error  string         `json:"error"`
		Code   int            `json:"code"`
		Hint   string         `json:"hint,omitempty"`
		File   string         `json:"file,omitempty"`
		Faults []config.Fault `json:"faults,omitempty"`
	}{Error: e.Err.Error(), Code: e.Code, Hint: e.Hint}
	var c *config.Error
	if errors.As(e.Err, &c) {
		body.File, body.Faults = c.File, c.Faults
	}
	_ = json.NewEncoder(w).Encode(body) // There is nobody left to tell.
}
