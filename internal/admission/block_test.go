package admission

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// block makes a header block of lines.
func block(lines ...string) []byte {
	return []byte(preamble + strings.Join(append(lines, ""), lineEnd) + lineEnd)
}

func TestRebuildRepeatsWhatItRead(t *testing.T) {
	for name, c := range map[string]struct{ in, want []byte }{
		"no header":             {block(), block()},
		"one":                   {block("A: b"), block("A: b")},
		"no space":              {block("A:b"), block("A: b")},
		"outer spaces and tabs": {block("A: \t b c\t "), block("A: b c")},
		"empty value":           {block("A:"), block("A: ")},
		"colons in the value":   {block("A: b:c: d"), block("A: b:c: d")},
		"inner tab":             {block("A: b\tc"), block("A: b\tc")},
		"beyond ASCII":          {block("A: café \xff"), block("A: café \xff")},
		"repeated name":         {block("A: 2", "B: x", "A: 1"), block("A: 2", "B: x", "A: 1")},
		"case kept":             {block("x-MiXed: 1"), block("x-MiXed: 1")},
		"not the prefix": {block("Nats: 1", "Natsx-a: 2", "X-Nats-Rollup: 3"),
			block("Nats: 1", "Natsx-a: 2", "X-Nats-Rollup: 3")},
		"id":                  {block("Nats-Msg-Id: i-1"), block("Nats-Msg-Id: i-1")},
		"id in other letters": {block("nATS-mSG-iD:i-1"), block("Nats-Msg-Id: i-1")},
		"broker's first": {block("A: 1", "nats-msg-id: i", "B: 2", "NATS-EXPECTED-STREAM: s", "A: 3"),
			block("Nats-Expected-Stream: s", "Nats-Msg-Id: i", "A: 1", "B: 2", "A: 3")},
		"id that misleads": {block("A: Nats-Msg-IdNats-Msg-Id", "Nats-Msg-Id: i"),
			block("Nats-Msg-Id: i", "A: Nats-Msg-IdNats-Msg-Id")},
	} {
		out, r := Rebuild([]byte("before"), c.in)
		if r != nil || !bytes.Equal(out, append([]byte("before"), c.want...)) {
			t.Errorf("%s: %q became %q, %v; want %q", name, c.in, out, r, c.want)
		}
	}
}

func TestRebuildRefuses(t *testing.T) {
	raw := func(s string) []byte { return []byte(s) }
	for name, c := range map[string]struct {
		in   []byte
		want Kind
	}{
		"nothing":                {nil, HeaderMalformed},
		"preamble cut":           {raw("NATS/1.0\r"), HeaderMalformed},
		"preamble alone":         {raw("NATS/1.0\r\n"), HeaderMalformed},
		"another version":        {raw("NATS/1.1\r\nA: b\r\n\r\n"), HeaderMalformed},
		"status":                 {raw("NATS/1.0 503\r\n\r\n"), HeaderMalformed},
		"space after version":    {raw("NATS/1.0 \r\n\r\n"), HeaderMalformed},
		"preamble ends with LF":  {raw("NATS/1.0\nA: b\r\n\r\n"), HeaderMalformed},
		"no final line":          {raw("NATS/1.0\r\nA: b\r\n"), HeaderMalformed},
		"final line ends in LF":  {raw("NATS/1.0\r\nA: b\r\n\n"), HeaderMalformed},
		"final line is a CR":     {raw("NATS/1.0\r\nA: b\r\n\r"), HeaderMalformed},
		"bytes after the end":    {raw("NATS/1.0\r\nA: b\r\n\r\nC: d\r\n\r\n"), HeaderMalformed},
		"one byte after the end": {raw("NATS/1.0\r\n\r\nx"), HeaderMalformed},
		"value without line end": {raw("NATS/1.0\r\nA: b"), HeaderMalformed},
		"LF smuggles a header":   {block("X: a\nNats-Trace-Dest: $KV.leasehold.session.n2"), HeaderMalformed},
		"CR smuggles a header":   {block("X: a\rNats-Trace-Dest: x"), HeaderMalformed},
		"CR CR LF":               {block("X: a\r"), HeaderMalformed},
		"LF CR":                  {block("X: a\n\rB: c"), HeaderMalformed},
		"LF in a name":           {block("X\nNats-Rollup: all"), HeaderMalformed},
		"NUL":                    {block("X: a\x00"), HeaderMalformed},
		"escape":                 {block("X: \x1b]0;x\x07"), HeaderMalformed},
		"DEL":                    {block("X: \x7f"), HeaderMalformed},
		"folded line":            {block("X: a", " b: c"), HeaderMalformed},
		"folded by a tab":        {block("X: a", "\tb"), HeaderMalformed},
		"no colon":               {block("X"), HeaderMalformed},
		"no name":                {block(": x"), HeaderMalformed},
		"space before the colon": {block("Nats-Rollup : all"), HeaderMalformed},
		"space in the name":      {block("a b: c"), HeaderMalformed},
		"name beyond ASCII":      {block("é: c"), HeaderMalformed},
		"name of 257 bytes":      {block(strings.Repeat("n", 257) + ": c"), HeaderMalformed},
		"to one group":           {block("Leasehold-Only-Group: billing"), HeaderNotAllowed},
		"forged id":              {block("leasehold-original-nats-msg-id: victim"), HeaderNotAllowed},
		"requeued, in capitals":  {block("LEASEHOLD-REQUEUES: 99"), HeaderNotAllowed},
		"trace":                  {block("Nats-Trace-Dest: x"), HeaderNotAllowed},
		"rollup in other case":   {block("nats-rollup: all"), HeaderNotAllowed},
		"prefix alone":           {block("NATS-: x"), HeaderNotAllowed},
		"last message id":        {block("Nats-Expected-Last-Msg-Id: x"), HeaderNotAllowed},
		"longer than the id":     {block("Nats-Msg-Id2: x"), HeaderNotAllowed},
		"two ids":                {block("Nats-Msg-Id: x", "nats-msg-id: x"), HeaderNotAllowed},
		"two streams":            {block("Nats-Expected-Stream: x", "Nats-Expected-Stream: x"), HeaderNotAllowed},
		"id too long":            {block("Nats-Msg-Id: " + strings.Repeat("i", MaxMsgID+1)), MessageIDTooLong},
		"id with a tab":          {block("Nats-Msg-Id: a\tb"), HeaderMalformed},
		"too large":              {block("A: " + strings.Repeat("x", MaxHeaders)), HeadersTooLarge},
		"too large once rebuilt": {block(strings.Repeat("a:\r\n", MaxHeaders/4-4) + "a:"), HeadersTooLarge},
	} {
		before := []byte("before")
		out, r := Rebuild(before, c.in)
		if r == nil || r.ErrCode != c.want.ErrCode || r.Reason != c.want.Reason {
			t.Errorf("%s: %.200q gave %v, want %s", name, c.in, r, c.want.Reason)
		}
		if string(out) != "before" {
			t.Errorf("%s: dst became %.200q", name, out)
		}
	}
}

func TestRebuildTakesTheLargestOfEverything(t *testing.T) {
	room := MaxHeaders - len(block("A: "))
	for name, in := range map[string][]byte{
		"block": block("A: " + strings.Repeat("x", room)),
		"name":  block(strings.Repeat("n", MaxHeaderName) + ": x"),
		"id":    block("Nats-Msg-Id: " + strings.Repeat("i", MaxMsgID)),
	} {
		if out, r := Rebuild(nil, in); r != nil || !bytes.Equal(out, in) {
			t.Errorf("%s: %d bytes became %d: %v", name, len(in), len(out), r)
		}
	}
}

func TestRebuildDoesNotAllocate(t *testing.T) {
	dst := make([]byte, 0, MaxHeaders)
	for name, in := range map[string][]byte{
		"id":   idBlock,
		"many": block("A: 1", "Nats-Expected-Stream: orders", "B: 2", "nats-msg-id: 3", "C: 4"),
	} {
		n := testing.AllocsPerRun(100, func() {
			if _, r := Rebuild(dst, in); r != nil {
				t.Fatal(r)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// idBlock is what a publisher that numbers its messages sends.
var idBlock = block("Nats-Msg-Id: Zr3DkWmQy0pL5vTnB8xGhA")

func BenchmarkRebuild(b *testing.B) {
	many := make([]string, 20)
	for i := range many {
		many[i] = "X-Header-" + strings.Repeat("n", i) + ": " + strings.Repeat("v", 2*i)
	}
	for name, in := range map[string][]byte{"id": idBlock, "20 headers": block(many...)} {
		b.Run(name, func(b *testing.B) {
			dst := make([]byte, 0, MaxHeaders)
			b.ReportAllocs()
			for b.Loop() {
				if _, r := Rebuild(dst, in); r != nil {
					b.Fatal(r)
				}
			}
		})
	}
}

func TestRefusalsOfOneKindAreTheSameError(t *testing.T) {
	_, a := Rebuild(nil, block("nats-a: x"))
	_, b := Rebuild(nil, block("nats-b: x"))
	_, c := Rebuild(nil, block("c"))
	if !errors.Is(a, b) || errors.Is(a, c) {
		t.Errorf("%v, %v, %v", a, b, c)
	}
}
