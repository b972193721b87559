package admission

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	_ "unsafe" // for go:linkname

	_ "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// sliceHeader is how the broker finds a header.
//
//go:linkname sliceHeader github.com/nats-io/nats-server/v2/server.sliceHeader
func sliceHeader(key string, hdr []byte) []byte

// brokerHeaders are names that the broker acts on, or did in some version.
var brokerHeaders = []string{
	"Nats-Rollup", "Nats-Trace-Dest", "Nats-Trace-Only", "Nats-TTL", "Nats-Schedule", "Nats-Schedule-Target", "Nats-Incr",
	"Nats-Batch-Id",
	"Nats-Expected-Last-Sequence", "Nats-Expected-Last-Subject-Sequence", "Nats-Expected-Last-Msg-Id", "Nats-Msg-Size",
	"Nats-Stream-Source",
}

// FuzzRebuild compares what three parsers make of a block: a slow one of this test, the client library's and the
// broker's.
func FuzzRebuild(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, r := Rebuild(nil, in)
		if r != nil {
			return
		}
		read, err := nats.DecodeHeadersMsg(out)
		if err != nil {
			t.Fatalf("the client library cannot read %q: %v", out, err)
		}
		sameHeaders(t, slowParse(in), read)
		for name := range read {
			if len(name) >= 5 && strings.EqualFold(name[:5], "Nats-") && name != MsgID && name != ExpectedStream {
				t.Errorf("%q lets the header %q through", in, name)
			}
			if len(name) >= len(nodePrefix) && strings.EqualFold(name[:len(nodePrefix)], nodePrefix) {
				t.Errorf("%q lets the header %q through", in, name)
			}
		}
		seenByBroker(t, read, out)
		if again, r := Rebuild(nil, out); r != nil || !bytes.Equal(again, out) {
			t.Errorf("%q is rebuilt as %q, %v", out, again, r)
		}
	})
}

// seeds are blocks on which parsers differ, or did.
func seeds() [][]byte {
	return [][]byte{
		idBlock,
		block(),
		block("A:1", "nats-msg-id:  x ", "A: 2", "NATS-expected-stream: s"),
		block("X: a\nNats-Trace-Dest: b"),
		block("X: a\rNats-Trace-Dest: b"),
		block("X: a", " Nats-Rollup: all"),
		block("X: Nats-Expected-StreamNats-Expected-Stream", "Nats-Expected-Stream: s", "Nats-Msg-Id: Nats-Msg-Id"),
		block(": x", "A: b"),
		[]byte("NATS/1.0 503 No Responders\r\n\r\n"),
		[]byte("NATS/1.0\r\nA: b\r\n\r\nNats-Rollup: all\r\n\r\n"),
	}
}

// slowParse reads a block that Rebuild took.
func slowParse(block []byte) map[string][]string {
	h := map[string][]string{}
	lines := strings.Split(string(block), "\r\n")
	for _, line := range lines[1 : len(lines)-2] {
		name, value, _ := strings.Cut(line, ":")
		for _, canonical := range []string{MsgID, ExpectedStream} {
			if strings.EqualFold(name, canonical) {
				name = canonical
			}
		}
		h[name] = append(h[name], strings.Trim(value, " \t"))
	}
	return h
}

func sameHeaders(t *testing.T, want map[string][]string, got nats.Header) {
	t.Helper()
	if len(want) != len(got) {
		t.Errorf("got %q, want %q", got, want)
	}
	for name, values := range want {
		if !slices.Equal(values, got[name]) {
			t.Errorf("%s: got %q, want %q", name, got[name], values)
		}
	}
}

// seenByBroker checks that the broker finds the two headers of a publisher that it acts on, with the same values, and
// none of its own. Where it is misled by their values, it must at least find the one that has it refuse the message.
func seenByBroker(t *testing.T, read nats.Header, out []byte) {
	t.Helper()
	if want, got := read[ExpectedStream], sliceHeader(ExpectedStream, out); len(want) > 0 && string(got) != want[0] {
		t.Errorf("the broker reads the stream %q of %q", got, out)
	}
	want, misled := read[MsgID], strings.Contains(strings.Join(read[ExpectedStream], ""), MsgID)
	if got := sliceHeader(MsgID, out); len(want) > 0 && string(got) != want[0] && !misled {
		t.Errorf("the broker reads the id %q of %q", got, out)
	}
	for _, name := range brokerHeaders {
		if got := sliceHeader(name, out); got != nil {
			t.Errorf("the broker reads %s %q of %q", name, got, out)
		}
	}
}
