package brokererr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

type withCode int

func (c withCode) Error() string   { return "JetStream system temporarily unavailable (10008)" }
func (c withCode) BrokerCode() int { return int(c) }

func TestTextHoldsNoWordsOfTheLibrary(t *testing.T) {
	api := func(code int, err jetstream.ErrorCode, text string) error {
		return &jetstream.APIError{Code: code, ErrorCode: err, Description: text}
	}
	for _, c := range []struct {
		err   error
		want  string
		later bool
	}{
		{fmt.Errorf("write control.audit: %w", nats.ErrNoResponders), "write control.audit: no leader answers", true},
		{fmt.Errorf("create a consumer of stream orders: %w", api(503, 10008, "JetStream system temporarily unavailable")),
			"create a consumer of stream orders: no leader answers", true},
		{withCode(10008), "no leader answers", true},
		{withCode(10037), "no leader answers", false},
		{fmt.Errorf("its stream does not answer: %w", context.DeadlineExceeded),
			"its stream does not answer: no answer in time", true},
		{fmt.Errorf("ensure stream: %w", api(400, 10005, "no suitable peers for placement, insufficient storage")),
			"ensure stream: no suitable peers for placement, insufficient storage", false},
		{nats.ErrTimeout, "no answer in time", true},
		{nats.ErrNoServers, "no node can be reached", true},
		{nats.ErrConnectionClosed, "the connection to the broker is lost", true},
		{jetstream.ErrNoStreamResponse, "no leader answers", true},
		{jetstream.ErrStreamNotFound, "stream not found", false},
		{nats.ErrBadHeaderMsg, "message could not decode headers", false},
		{context.Canceled, "interrupted", false},
		{errors.New("the disk is full"), "the disk is full", false},
		{nil, "", false},
	} {
		got := Text(c.err)
		if c.err != nil && strings.Contains(got, "nats: ") || !strings.Contains(got, c.want) ||
			strings.Contains(got, "err_code") {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
		if Unavailable(c.err) != c.later {
			t.Errorf("%v: worth asking again is %t", c.err, !c.later)
		}
	}
}
