package admission

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// want checks a refusal's kind; the zero Kind is none.
func want(t *testing.T, what string, r *Refusal, k Kind) {
	t.Helper()
	switch {
	case r == nil && k.Reason == "":
	case r == nil || r.Reason != k.Reason || r.Code != k.Code || r.ErrCode != k.ErrCode:
		t.Errorf("%.100q: %v, want %q", what, r, k.Reason)
	case len(r.Description) > 400 || strings.ContainsFunc(r.Description, func(c rune) bool {
		return c < ' ' || c == 0x202e
	}):
		t.Errorf("%.100q: the description is not fit for a log: %q", what, r.Description)
	}
}

func TestHeaderNames(t *testing.T) {
	for name, k := range map[string]Kind{
		"A": {}, "x-1.2_3~": {}, "Content-Type": {}, "!#$%&'*+-.^_`|~": {}, "Nats": {}, "nats-msg-id": {},
		"NATS-EXPECTED-STREAM":   {},
		strings.Repeat("n", 256): {}, strings.Repeat("n", 257): HeaderMalformed,
		"": HeaderMalformed, "a b": HeaderMalformed, "a:": HeaderMalformed, "a\n": HeaderMalformed, "é": HeaderMalformed,
		"a\x00": HeaderMalformed,
		"(a)":   HeaderMalformed, "\u202e": HeaderMalformed,
		"Nats-": HeaderNotAllowed, "nats-Trace-Dest": HeaderNotAllowed, "NATS-ROLLUP": HeaderNotAllowed,
		"Nats-Msg-Id-":         HeaderNotAllowed,
		"Leasehold-Only-Group": HeaderNotAllowed, "leasehold-requeues": HeaderNotAllowed,
		"LEASEHOLD-Original-Nats-Msg-Id": HeaderNotAllowed,
		"Leasehold-":                     HeaderNotAllowed, "Leasehold": {}, "Leaseholder-A": {}, "X-Leasehold-Requeues": {},
	} {
		want(t, name, HeaderName(name), k)
	}
}

func TestHeaderValues(t *testing.T) {
	for value, k := range map[string]Kind{
		"": {}, " a\tb ": {}, "café": {}, "\xff": {},
		"a\rb": HeaderMalformed, "a\nb": HeaderMalformed, "a\x00": HeaderMalformed, "\x1b[0m": HeaderMalformed,
		"\x7f":                     HeaderMalformed,
		strings.Repeat("\n", 5000): HeaderMalformed,
	} {
		want(t, value, HeaderValue(value), k)
	}
}

func TestMessageIDs(t *testing.T) {
	for id, k := range map[string]Kind{
		"": {}, "a b": {}, "é": {}, strings.Repeat("i", 256): {},
		strings.Repeat("i", 257): MessageIDTooLong, strings.Repeat("\x00", 60_000): MessageIDTooLong,
		" a": HeaderMalformed, "a ": HeaderMalformed, "a\tb": HeaderMalformed, "a\r\nb": HeaderMalformed,
		"\x7f": HeaderMalformed,
	} {
		want(t, id, MessageID(id), k)
	}
}

func TestHeadersTogether(t *testing.T) {
	long := strings.Repeat("x", 16<<10)
	for i, c := range []struct {
		h map[string][]string
		k Kind
	}{
		{nil, Kind{}},
		{map[string][]string{"A": {"1", "2"}, "Nats-Msg-Id": {"i"}}, Kind{}},
		{map[string][]string{"A": {long}, "B": {long[100:]}}, Kind{}},
		{map[string][]string{"A": {long}, "B": {long}}, HeadersTooLarge},
		{map[string][]string{"A": {long, long}}, HeadersTooLarge},
		{map[string][]string{"A": make([]string, 8<<10)}, HeadersTooLarge},
		{map[string][]string{"A": {"ok", "a\nb"}}, HeaderMalformed},
		{map[string][]string{"A b": nil}, HeaderMalformed},
		{map[string][]string{"nats-rollup": {"all"}}, HeaderNotAllowed},
		{map[string][]string{"Nats-Msg-Id": {"i", "j"}}, HeaderNotAllowed},
		{map[string][]string{"Nats-Msg-Id": {"i"}, "nats-msg-id": {"i"}}, HeaderNotAllowed},
		{map[string][]string{"Nats-Expected-Stream": {"i", "i"}}, HeaderNotAllowed},
	} {
		want(t, fmt.Sprintf("case %d", i), Headers(c.h), c.k)
	}
}

func TestWireSizeIsThatOfTheBlock(t *testing.T) {
	h := map[string][]string{"A": {"1", "22"}, "Bcd": {""}}
	if got, b := WireSize(h), block("A: 1", "A: 22", "Bcd: "); got != len(b) {
		t.Errorf("%d, want %d", got, len(b))
	}
}

func TestSubjects(t *testing.T) {
	long := "orders." + strings.Repeat("k", MaxSubject-len("orders."))
	for subject, k := range map[string]Kind{
		"orders.k": {}, "orders.a*b": {}, "orders.x>y": {}, "orders.café": {}, long: {},
		long + "k": SubjectInvalid, long + strings.Repeat("k", 3000): SubjectInvalid,
		"": SubjectInvalid, "orders.": SubjectInvalid, ".orders": SubjectInvalid, "orders..k": SubjectInvalid,
		"orders.*": SubjectInvalid, "orders.>": SubjectInvalid, "*": SubjectInvalid, "orders.*.k": SubjectInvalid,
		"orders.\xff": SubjectInvalid, "orders.caf\xe9": SubjectInvalid, "orders.\ufffd": SubjectInvalid,
		"orders.\xed\xa0\x80": SubjectInvalid, "orders.\U0001f600": {},
		"orders.a b": SubjectInvalid, "orders.a\tb": SubjectInvalid, "orders.\x00": SubjectInvalid,
		"orders.\x7f":     SubjectInvalid,
		"orders.a\r\nPUB": SubjectInvalid, "orders.\u202e \x1b": SubjectInvalid,
	} {
		want(t, subject, Subject(subject), k)
	}
}

func TestReplies(t *testing.T) {
	for reply, k := range map[string]Kind{
		"": {}, "_INBOX.u.1": {}, "_INBOX.u.1.2": {}, "_INBOX.u." + strings.Repeat("x", 1000): {},
		"_INBOX.u." + strings.Repeat("x", 1020): ReplyNotAllowed,
		"_INBOX.u":                              ReplyNotAllowed, "_INBOX.u2.1": ReplyNotAllowed,
		"$KV.leasehold.cluster": ReplyNotAllowed, "_INBOX.u.": ReplyNotAllowed,
		"_INBOX.u.*": ReplyNotAllowed, "_INBOX.u.>": ReplyNotAllowed, "_INBOX.u..a": ReplyNotAllowed,
		"_INBOX.u.a b": ReplyNotAllowed,
	} {
		want(t, reply, Reply(reply, "_INBOX.u."), k)
	}
}

func TestPayload(t *testing.T) {
	want(t, "at the limit", Payload(100, 100), Kind{})
	want(t, "over it", Payload(101, 100), PayloadTooLarge)
}

func TestQuotesAreShort(t *testing.T) {
	if q := Quote(strings.Repeat("é", 40) + "\x1b"); len(q) > 100 || !strings.Contains(q, "(81 bytes)") {
		t.Errorf("%s", q)
	}
	if q := Quote([]byte("a\x1b\u0085\u202e\xff")); q != `"a\x1b\u0085\u202e\xff"` {
		t.Errorf("%s", q)
	}
}

// TestDocumentListsEveryKind holds the table in docs/errors.md to the code.
func TestDocumentListsEveryKind(t *testing.T) {
	text, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "| 10") || strings.HasPrefix(line, "| 2") {
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	seen := map[uint16]bool{}
	for i, k := range Kinds() {
		row := fmt.Sprintf("| %d | %d | `%s` | %s |", k.ErrCode, k.Code, k.Reason, k.Meaning)
		if i >= len(rows) || rows[i] != row {
			t.Errorf("row %d of docs/errors.md must be\n%s", i+1, row)
		}
		if seen[k.ErrCode] {
			t.Errorf("two kinds have the code %d", k.ErrCode)
		}
		seen[k.ErrCode] = true
	}
	if len(rows) != len(Kinds()) {
		t.Errorf("docs/errors.md has %d rows, there are %d kinds", len(rows), len(Kinds()))
	}
}
