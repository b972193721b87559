package validname

import (
	"strings"
	"testing"
)

func TestNamesAreSafeInSubjectsFilesAndCommandLines(t *testing.T) {
	for name, ok := range map[string]bool{
		"billing": true, "B-2_x": true, "9": true, strings.Repeat("x", 64): true,
		"": false, "_x": false, "-x": false, "a.b": false, "a b": false, "a/b": false, "ä": false, "*": false, "a\n": false,
		strings.Repeat("x", 65): false,
	} {
		if OK(name) != ok {
			t.Errorf("%q: %v, want %v", name, !ok, ok)
		}
	}
}
