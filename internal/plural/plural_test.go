package plural

import "testing"

func TestNounsAndVerbsFollowTheNumber(t *testing.T) {
	for n, want := range map[int]string{0: "0 letters wait", 1: "1 letter waits", 2: "2 letters wait",
		20000: "20,000 letters wait"} {
		if got := Of(n, "letter") + " " + Verb(n, "waits", "wait"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
