package handler

import (
	"errors"
	"time"
)

// Causes with which the context of a call ends.
var (
	ErrTimeout  = errors.New("the call took longer than the group's timeout")
	ErrDraining = errors.New("the partition is being handed over")
	ErrShutdown = errors.New("the group is stopping")
)

// ErrNotCalled is the Err of a result whose call was not made, or was lost because of another partition, although
// nothing is wrong with the handler. The call does not count and is to be made again at once.
var ErrNotCalled = errors.New("the handler was not called")

// notCalledError is an ErrNotCalled with the text of its own reason.
type notCalledError struct{ reason string }

// NewNotCalled returns an error that is ErrNotCalled and says why.
func NewNotCalled(reason string) error { return &notCalledError{reason} }

// Error returns the reason.
func (e *notCalledError) Error() string { return e.reason }

// Is holds for ErrNotCalled.
func (e *notCalledError) Is(target error) bool { return target == ErrNotCalled }

// Why a partition is revoked, as Assigner.Revoke is told.
const (
	ReasonRebalance = "rebalance"
	ReasonShutdown  = "shutdown"
	ReasonLost      = "lost"
)

// How long a handler may take to handle the revocation of a partition. A lane that was cancelled must be joined within
// half the lease margin, or the node ends itself, so there is no time for a graceful revoke.
const (
	RevokeTimeout          = 5 * time.Second
	CancelledRevokeTimeout = 100 * time.Millisecond
)
