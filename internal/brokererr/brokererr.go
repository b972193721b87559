// Package brokererr puts errors of the broker and of its client library into the product's words. It is the only place
// that knows their texts: what an operator or a caller reads passes through Text, and an answer that is worth asking
// for again is recognised by Unavailable.
package brokererr

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// coded is an error of the broker with a code of nats-server's errors.json.
type coded interface{ BrokerCode() int }

// Codes of nats-server's errors.json (v2.15.2) that say: not now.
var notNow = map[int]bool{
	10008: true, // JSClusterNotAvailErr: no leader
	10009: true, // JSClusterNotLeaderErr
	10118: true, // JSStreamOfflineErr
	10119: true, // JSConsumerOfflineErr
	10194: true, // JSStreamOfflineReasonErrF
	10195: true, // JSConsumerOfflineReasonErrF
}

// notNowErrors are those of the client library.
var notNowErrors = []error{
	nats.ErrNoResponders, nats.ErrTimeout, nats.ErrConnectionClosed, nats.ErrDisconnected, nats.ErrConnectionReconnecting,
	nats.ErrNoServers, nats.ErrReconnectBufExceeded, nats.ErrStaleConnection, jetstream.ErrNoStreamResponse,
	jetstream.ErrJetStreamNotEnabled, context.DeadlineExceeded, os.ErrDeadlineExceeded,
}

// Unavailable reports whether there was no answer: no leader, no connection, or a timeout. The same request may work
// later.
func Unavailable(err error) bool {
	var c coded
	var api *jetstream.APIError
	switch {
	case err == nil:
		return false
	case errors.As(err, &c):
		return notNow[c.BrokerCode()]
	case errors.As(err, &api):
		return api.Code == 503 || notNow[int(api.ErrorCode)]
	}
	for _, e := range notNowErrors {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Texts in the order in which they are looked for: a longer one before one that it contains.
var words = strings.NewReplacer(
	"nats: no responders available for request", noLeader,
	"no responders available for request", noLeader,
	"nats: no response from stream", noLeader,
	"JetStream system temporarily unavailable", noLeader,
	"JetStream not enabled for account", "the broker's storage is off",
	"JetStream not enabled", "the broker's storage is off",
	"insufficient resources", "the broker has no room for it",
	"nats: timeout", noAnswer,
	"nats: no servers available for connection", "no node can be reached",
	"nats: connection closed", lost,
	"nats: connection disconnected", lost,
	"nats: connection reconnecting", lost,
	"nats: outbound buffer limit exceeded", lost,
	"nats: stale connection", lost,
	"nats: Authorization Violation", "the user or its password or key is not accepted",
	"nats: authorization violation", "the user or its password or key is not accepted",
	"nats: Permissions Violation", "the user may not do this",
	"nats: permissions violation", "the user may not do this",
	"nats: maximum payload exceeded", "it is larger than max_payload",
	"nats: invalid subject", "not a valid subject",
	"nats: message not found", "no such message is stored",
	"context deadline exceeded (Client.Timeout exceeded while awaiting headers)", noAnswer,
	"context deadline exceeded", noAnswer,
	"i/o timeout", noAnswer,
	"context canceled", "interrupted",
	"nats: ", "",
	"jetstream: ", "",
)

const (
	noLeader = "no leader answers"
	noAnswer = "no answer in time"
	lost     = "the connection to the broker is lost"
)

// An error of the API as the client library prints it, and the broker's code as package worker prints it.
var (
	apiError   = regexp.MustCompile(`(?:nats: )?API error: code=\d+ err_code=(\d+) description=`)
	unavailing = regexp.MustCompile(`(JetStream system temporarily unavailable) \(\d+\)`)
)

// Text is an error's text without what only a developer of the broker can read.
func Text(err error) string {
	if err == nil {
		return ""
	}
	return Plain(err.Error())
}

// Plain is Text of a text.
func Plain(text string) string {
	text = apiError.ReplaceAllString(text, "")
	return words.Replace(unavailing.ReplaceAllString(text, "$1"))
}
