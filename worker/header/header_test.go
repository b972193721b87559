package header

import "testing"

func TestWhatCannotBeCarriedIsEscaped(t *testing.T) {
	for in, want := range map[string]string{"": "", "c-17 ä\t100%": "c-17 ä\t100%", "a\x00b\r\nc\x7f": "a%00b%0D%0Ac%7F"} {
		if got := Escape(in, IsControl); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	if got := Escape("My Header:ä", IsNotToken); got != "My%20Header%3A%C3%A4" {
		t.Errorf("a header's name became %q", got)
	}
}
