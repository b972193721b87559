package printable

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

func TestLineShowsNothingThatSteersATerminal(t *testing.T) {
	for text, want := range map[string]string{
		"über c-17":             "über c-17",
		"unavail \x1b]0;PWN\a":  `unavail \u001b]0;PWN\u0007`,
		"k\r\nOK: all is fine":  "k  OK: all is fine",
		"\u009b31mred":          `\u009b31mred`,
		"a\u202egnp.exe":        `a\u202egnp.exe`,
		"\u2066iso\u2069":       `\u2066iso\u2069`,
		"byte \x9b2J":           `byte \x9b2J`,
		"tag \U000e0041":        `tag \udb40\udc41`,
		"nul\x00 del\x7f":       `nul\u0000 del\u007f`,
		"zero\u200bwidth\ufeff": `zero\u200bwidth\ufeff`,
		"next\u0085\u2028line":  "next  line",
		"replaced \ufffd":       "replaced \ufffd",
		"wide\u3000日本":          "wide 日本",
	} {
		if got := Line(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestTextKeepsLinesAndTabs(t *testing.T) {
	for text, want := range map[string]string{
		"a\tb\nc\r\nd":    "a\tb\nc\nd",
		"over\rwritten":   `over\u000dwritten`,
		"up\x1b[A\u2028x": `up\u001b[A\u2028x`,
		"日本\u3000語":       "日本\u3000語",
	} {
		if got := Text(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// FuzzText holds that nothing passes that must not, and that JSON keeps its value.
func FuzzText(f *testing.F) {
	for _, seed := range []string{"", "\x1b[2J", "\u009b", "\U000e0001\u202e", "\xff\x9b", "\\\u2028\"", "\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, out := range []string{Line(text), Text(text)} {
			for i, r := range out {
				if _, width := utf8.DecodeRuneInString(out[i:]); r == utf8.RuneError && width == 1 || r != utf8.RuneError &&
					escapes(r) {
					t.Fatalf("%q passes %q", text, out)
				}
			}
		}
		doc, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		var before, after string
		if err := json.Unmarshal(doc, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(Text(string(doc))), &after); err != nil || before != after {
			t.Fatalf("%q became %q: %v", before, after, err)
		}
	})
}
