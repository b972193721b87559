package lines

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestLinesWithoutAFinalBreakAndLongOnesAreRead(t *testing.T) {
	in := NewReader(strings.NewReader("a\r\n"+strings.Repeat("b", 3<<20)+"\n\nlast"), Options{Key: "k"})
	var got []int
	for r, err := in.Next(); err == nil; r, err = in.Next() {
		got = append(got, len(r.Data), r.Line)
	}
	want := []int{1, 1, 3 << 20, 2, 4, 4}
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if in.Bytes() != 3+3<<20+1+1+4 {
		t.Errorf("read %d bytes", in.Bytes())
	}
}

func TestKeysAndIDsAreSpelledAsTheyStand(t *testing.T) {
	in := NewReader(strings.NewReader(`{"who":{"id":12345678901234567890},"e":true}`), Options{KeyField: "who.id", IDField: "e"})
	r, err := in.Next()
	if err != nil || r.Err != nil || r.Key != "12345678901234567890" || r.ID != "true" {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := in.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last line: %v", err)
	}
}

func TestALineThatHasNoKeySaysWhy(t *testing.T) {
	for line, want := range map[string]string{
		`not json`:              "not JSON",
		`{"who":{}}`:            `no field "who.id"`,
		`{"who":7}`:             `no field "who.id"`,
		`{"who":{"id":""}}`:     "is empty",
		`{"who":{"id":["a"]}}`:  "no text or number",
		`{"who":{"id":{}}}`:     "no text or number",
		`{"who":{"id":null}}`:   `no field "who.id"`,
		`{"who":{"id":"a"},"e"`: "not JSON",
	} {
		r, err := NewReader(strings.NewReader(line), Options{KeyField: "who.id"}).Next()
		if err != nil || r.Err == nil || !strings.Contains(r.Err.Error(), want) {
			t.Errorf("%s: got %v, %v; want %q", line, r.Err, err, want)
		}
	}
}

func TestALineTooLongIsRefused(t *testing.T) {
	in := NewReader(strings.NewReader("short\n"+strings.Repeat("x", 100)), Options{MaxLine: 10})
	if _, err := in.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Next(); !errors.Is(err, ErrTooLong) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v", err)
	}
}
