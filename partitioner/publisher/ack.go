package publisher

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"leasehold/internal/admission"
	"leasehold/partitioner"
)

// verdict is what an acknowledgement says about one attempt to publish.
type verdict int

const (
	acked     verdict = iota // it is stored
	rejected                 // not stored and never will be; a retry is pointless
	retryable                // not stored and never will be, but a retry may be
	overLimit                // as rejected, if the sender leads the stream; see confirmLimit
	undecided                // may be stored, now or later
)

// ack is a broker's answer to one attempt, or the client library's error.
type ack struct {
	verdict   verdict
	sequence  uint64
	duplicate bool
	err       error
}

// Codes of nats-server's errors.json, as the publish path answers them (processClusteredInboundMsg,
// checkMsgHeadersPreClusteredProposal, processJetStreamMsg). The path first looks for the message id and then at the
// limits, so a refusal also says that no earlier attempt had been stored by then.
const (
	codeAccountResources = 10002
	codeServerResources  = 10023
	codeMemory           = 10028
	codeStorage          = 10047
	codeTooLarge         = 10054
	codeStoreFailed      = 10077 // the stream's own limits; only the text tells which
	codeHeaderTooLarge   = 10097
	codeInProcess        = 10158 // an earlier attempt is being stored at this moment
	codeTooManyRequests  = 10167 // dropped before it was looked at
)

type pubAck struct {
	Stream    string `json:"stream"`
	Sequence  uint64 `json:"seq"`
	Duplicate bool   `json:"duplicate"`
	Error     *struct {
		Code        int    `json:"code"`
		ErrCode     int    `json:"err_code"`
		Description string `json:"description"`
	} `json:"error"`
}

// readAck decodes the answer to one attempt. An answer that it cannot decode is undecided.
func readAck(stream string, m *nats.Msg) ack {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		// No responders: no stream is subscribed, and the broker dropped this attempt.
		return ack{verdict: retryable, err: ErrNoTopic}
	}
	var reply pubAck
	if err := json.Unmarshal(m.Data, &reply); err != nil {
		return ack{verdict: undecided, err: fmt.Errorf("%w: unreadable: %w", ErrNoAnswer, err)}
	}
	switch {
	case reply.Error != nil:
		return refusal(reply.Error.Code, reply.Error.ErrCode, reply.Error.Description)
	case reply.Sequence == 0:
		return ack{verdict: undecided, err: fmt.Errorf("%w: it came without a sequence", ErrNoAnswer)}
	case reply.Stream != stream:
		err := fmt.Errorf("%w: stream %q took it instead of %q", ErrNoTopic, reply.Stream, stream)
		return ack{verdict: rejected, err: err}
	}
	return ack{verdict: acked, sequence: reply.Sequence, duplicate: reply.Duplicate}
}

func refusal(code, errCode int, text string) ack {
	switch errCode {
	case codeStoreFailed:
		return storeFailed(text)
	case codeTooLarge, codeHeaderTooLarge:
		return ack{verdict: rejected, err: fmt.Errorf("%w (%s)", ErrTooLarge, text)}
	case codeAccountResources, codeServerResources, codeMemory, codeStorage:
		// A leader that is out of room steps down; the next one may have some.
		return ack{verdict: retryable, err: fmt.Errorf("%w: %s", ErrResources, text)}
	case codeInProcess, codeTooManyRequests:
		return ack{verdict: retryable, err: fmt.Errorf("broker: %s (%d)", text, errCode)}
	}
	err := fmt.Errorf("broker: %s (%d)", text, errCode)
	if kind := refusedBy(errCode); kind != nil {
		err = fmt.Errorf("%w: %s (%d)", kind, text, errCode)
	}
	if code >= 500 {
		return ack{verdict: undecided, err: err}
	}
	return ack{verdict: rejected, err: err}
}

// refusedBy is the sentinel for a node's refusal of a message before the broker saw it.
func refusedBy(errCode int) error {
	switch uint16(errCode) {
	case admission.SubjectInvalid.ErrCode:
		return partitioner.ErrSubject
	case admission.HeaderMalformed.ErrCode, admission.HeaderNotAllowed.ErrCode, admission.HeadersTooLarge.ErrCode,
		admission.MessageIDTooLong.ErrCode:
		return ErrHeader
	case admission.ReplyNotAllowed.ErrCode:
		return ErrNotPermitted
	}
	return nil
}

// storeFailed tells the stream's own limits from failures of its storage, which may be one replica's alone.
func storeFailed(text string) ack {
	switch {
	case strings.Contains(text, "maximum bytes exceeded"):
		return ack{verdict: overLimit, err: ErrTopicFull}
	case strings.Contains(text, "maximum messages exceeded"):
		return ack{verdict: overLimit, err: ErrPublishingPaused}
	case strings.Contains(text, "message to large"), strings.Contains(text, "too large"):
		return ack{verdict: rejected, err: fmt.Errorf("%w (%s)", ErrTooLarge, text)}
	}
	return ack{verdict: undecided, err: fmt.Errorf("broker: %s (%d)", text, codeStoreFailed)}
}

// sendError reads an error of the client library's publish call.
func sendError(err error) ack {
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return ack{verdict: rejected, err: ErrTooLarge}
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining):
		return ack{verdict: rejected, err: fmt.Errorf("%w: %w", ErrNotConnected, err)}
	case errors.Is(err, nats.ErrReconnectBufExceeded):
		return ack{verdict: retryable, err: fmt.Errorf("%w: %w", ErrNotConnected, err)}
	case errors.Is(err, nats.ErrBadHeaderMsg):
		return ack{verdict: rejected, err: fmt.Errorf("%w: %w", ErrHeader, err)}
	case errors.Is(err, nats.ErrBadSubject):
		return ack{verdict: rejected, err: fmt.Errorf("%w: %w", partitioner.ErrSubject, err)}
	}
	return ack{verdict: undecided, err: fmt.Errorf("%w: %w", ErrNoAnswer, err)}
}
