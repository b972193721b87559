package publisher

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"leasehold/internal/admission"
	"leasehold/partitioner"
)

func TestRefusalsOfANodeAreFinal(t *testing.T) {
	for _, c := range []struct {
		kind admission.Kind
		want error
	}{
		{admission.SubjectInvalid, partitioner.ErrSubject}, {admission.HeaderMalformed, ErrHeader},
		{admission.HeaderNotAllowed, ErrHeader},
		{admission.HeadersTooLarge, ErrHeader}, {admission.MessageIDTooLong, ErrHeader},
		{admission.ReplyNotAllowed, ErrNotPermitted},
		{admission.PayloadTooLarge, ErrTooLarge},
	} {
		a := refusal(c.kind.Code, int(c.kind.ErrCode), "why")
		if a.verdict != rejected || !errors.Is(a.err, c.want) {
			t.Errorf("%s: %+v", c.kind.Reason, a)
		}
	}
}

func TestWireSizeIsWhatTheBrokerCounts(t *testing.T) {
	m := Message{Key: "a", Headers: nats.Header{"nats-msg-id": {"id-1"}, "X": {"1", "22"}}, Data: []byte("data")}
	header, id, err := m.header()
	if err != nil {
		t.Fatal(err)
	}
	header[nats.MsgIdHdr] = []string{id}
	if want := admission.WireSize(header) + len(m.Data); m.WireSize() != int64(want) {
		t.Errorf("%d, want %d", m.WireSize(), want)
	}
}
