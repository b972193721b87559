// Package printable makes text that others wrote safe to show. Payloads, keys, headers, reasons and errors come from
// publishers and handlers; a terminal would act on the escape sequences in them, and a log would show a forged line.
package printable

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Line is text in one line: white space becomes a blank, and every other rune that does not print an escape.
func Line(text string) string {
	clean := true
	for _, r := range text {
		if r != ' ' && (unicode.IsSpace(r) || escapes(r)) {
			clean = false
			break
		}
	}
	if clean {
		return text
	}
	var b strings.Builder
	for i, width := 0, 0; i < len(text); i += width {
		var r rune
		r, width = utf8.DecodeRuneInString(text[i:])
		if unicode.IsSpace(r) {
			b.WriteByte(' ')
			continue
		}
		b.WriteString(shown(text[i:i+width], r))
	}
	return b.String()
}

// Text is text of several lines: line feeds and tabs stay, and a CR before a line feed goes. Of JSON the result is JSON
// of the same value, since runes that do not print stand only within its strings, and the escapes are those of JSON.
func Text(text string) string {
	if strings.IndexFunc(text, escapes) < 0 {
		return text
	}
	text = strings.ReplaceAll(text, "\r\n", "\n")
	var b strings.Builder
	for i, width := 0, 0; i < len(text); i += width {
		var r rune
		r, width = utf8.DecodeRuneInString(text[i:])
		b.WriteString(shown(text[i:i+width], r))
	}
	return b.String()
}

// escapes reports whether a rune is shown as an escape: C0 and C1 controls, bidirectional and other format characters,
// line separators, private and unassigned ones. Blanks of any width stay. An invalid byte is decoded as RuneError.
func escapes(r rune) bool {
	return r != '\n' && r != '\t' && !unicode.IsPrint(r) && !unicode.Is(unicode.Zs, r) || r == utf8.RuneError
}

// shown is how a rune is shown; raw is its bytes.
func shown(raw string, r rune) string {
	switch {
	case r == utf8.RuneError && len(raw) == 1: // A terminal of eight bits would take 0x9b for the C1 control.
		return fmt.Sprintf(`\x%02x`, raw[0])
	case r == utf8.RuneError || !escapes(r):
		return raw
	case r > 0xffff:
		high, low := utf16.EncodeRune(r)
		return fmt.Sprintf(`\u%04x\u%04x`, high, low)
	}
	return fmt.Sprintf(`\u%04x`, r)
}
