package lines

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
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
	in := NewReader(strings.NewReader(`{"who":{"id":12345678901234567890},"e":true}`),
		Options{KeyField: "who.id", IDField: "e"})
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
		`{"who":{"id":["a"]}}`:  "not text or a number",
		`{"who":{"id":{}}}`:     "not text or a number",
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

// all reads everything: the lines of the records that are taken, why the others are not, and what ended it.
func all(in string, o Options) (taken, refused []string, err error) {
	r := NewReader(strings.NewReader(in), o)
	for {
		rec, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return taken, refused, nil
		case err != nil:
			return taken, refused, err
		case rec.Err != nil:
			refused = append(refused, fmt.Sprintf("%d: %s", rec.Line, rec.Err))
		default:
			taken = append(taken, string(rec.Data))
		}
	}
}

func TestALineIsOneValueInUTF8(t *testing.T) {
	for line, want := range map[string]string{
		`{"k":"a"}{"k":"b"}`:           "not one JSON value",
		`{"k":"a"},`:                   "not one JSON value",
		`{"k":"a"} // c`:               "not one JSON value",
		`{"k":"a"} # c`:                "not one JSON value",
		`{"k":"a"}]`:                   "not one JSON value",
		"{\"k\":\"a\"}\x00":            "not one JSON value",
		"{\"k\":\"a\"}\u00a0":          "not one JSON value", // JSON's blanks are four.
		"{\"k\":\"M\xfcller\"}":        "byte 8 is 0xfc",
		"{\"k\":\"a\",\"n\":\"\xe9\"}": "byte 15 is 0xe9", // Beside the key, too: handlers parse all of it.
		`{"k":"\ud83d"}`:               "unpaired surrogate",
		`{"k":"a","k":"b"}`:            "appears twice",
		`{"k":"a"`:                     "unexpected end",
		`{k:"a"}`:                      "not JSON",
		`[{"k":"a"}]`:                  "jq -c '.[]'",
		"\ufeff{\"k\":\"a\"}":          "not JSON", // In the middle of the input, where files were put together.
	} {
		taken, refused, err := all(`{"k":"first"}`+"\n"+line, Options{KeyField: "k"})
		if err != nil || len(taken) != 1 || len(refused) != 1 || !strings.HasPrefix(refused[0], "2: ") ||
			!strings.Contains(refused[0], want) {
			t.Errorf("%q: taken %q, refused %q, %v; want %q", line, taken, refused, err, want)
		}
	}
}

func TestAnIDIsHeldToTheSameAsAKey(t *testing.T) {
	taken, refused, err := all(`{"k":"a","id":"\udc00"}`+"\n"+`{"k":"a","id":"\ud83d\ude00"}`,
		Options{KeyField: "k", IDField: "id"})
	if err != nil || len(taken) != 1 || len(refused) != 1 ||
		!strings.Contains(refused[0], `field "id" contains an unpaired`) {
		t.Errorf("taken %q, refused %q, %v", taken, refused, err)
	}
}

func TestLinesOfOneKeyAreTextOrJSONAsAsked(t *testing.T) {
	const in = "[info] started\n{\"a\":1}\nM\xfcller\n{} {}"
	taken, refused, err := all(in, Options{Key: "k"})
	if err != nil || len(taken) != 3 || len(refused) != 1 || !strings.HasPrefix(refused[0], "3: line is not UTF-8") {
		t.Errorf("text: taken %q, refused %q, %v", taken, refused, err)
	}
	taken, refused, err = all(in, Options{Key: "k", JSON: true})
	if err != nil || len(taken) != 1 || len(refused) != 3 {
		t.Errorf("JSON: taken %q, refused %q, %v", taken, refused, err)
	}
}

func TestAByteOrderMarkIsSkippedAtTheStartOnly(t *testing.T) {
	for _, in := range []string{"\ufeff{\"k\":\"a\"}", "\ufeff\n{\"k\":\"a\"}", "\ufeff  {\"k\":\"a\"}\r\n"} {
		if taken, refused, err := all(in, Options{KeyField: "k"}); err != nil || len(taken) != 1 || refused != nil {
			t.Errorf("%q: taken %q, refused %q, %v", in, taken, refused, err)
		}
	}
	if taken, _, err := all("\ufeffx\n\ufeffy", Options{Key: "k"}); err != nil || len(taken) != 2 || taken[0] != "x" ||
		taken[1] != "\ufeffy" {
		t.Errorf("text: taken %q, %v", taken, err)
	}
	r := NewReader(strings.NewReader("\ufeffab\n"), Options{Key: "k"})
	if _, err := r.Next(); err != nil || r.Bytes() != 6 {
		t.Errorf("read %d bytes, %v", r.Bytes(), err)
	}
}

func TestInputThatIsNotLinesIsRefusedBeforeItsFirstMessage(t *testing.T) {
	for in, want := range map[string]string{
		"[\n  {\"k\":\"a\"},\n  {\"k\":\"b\"}\n]":       "jq -c",
		"\n\n[ {\"k\":\"a\"},\n{\"k\":\"b\"} ]":         "line 3 starts",
		"{\n  \"k\": \"a\"\n}\n":                        "jq -c",
		"{\"events\": [\n{\"k\":\"a\"}\n]}":             "jq -c",
		"\ufeff[\r\n{\"k\":\"a\"}\r\n]":                 "jq -c",
		"\xff\xfe{\x00\"\x00k\x00\"\x00:\x001\x00}\x00": "UTF-16",
		"\xfe\xff\x00{\x00\"\x00k\x00\"\x00:\x001\x00}": "UTF-16",
		"{\x00\"\x00k\x00\"\x00:\x001\x00}\x00\n\x00":   "UTF-16",
		"\x00\x00\xfe\xff\x00\x00\x00{":                 "UTF-32",
	} {
		for _, o := range []Options{{Key: "k"}, {Key: "k", JSON: true}, {KeyField: "k"}} {
			taken, refused, err := all(in, o)
			if err == nil || !strings.Contains(err.Error(), want) || taken != nil || refused != nil {
				t.Errorf("%q: taken %q, refused %q, %v; want %q", in, taken, refused, err, want)
			}
		}
	}
}

// FuzzLinesAreWholeOrRefused: what is taken is a line of the input as it stands there, and its key and id are in it.
func FuzzLinesAreWholeOrRefused(f *testing.F) {
	f.Add([]byte(`{"k":"a","id":1}`+"\n"+`{"k":"\ud83d"}`), true)
	f.Add([]byte("\ufeff[\n{}"), false)
	f.Fuzz(func(t *testing.T, in []byte, fields bool) {
		o := Options{Key: "one", MaxLine: 1 << 10}
		if fields {
			o = Options{KeyField: "k", IDField: "id", MaxLine: 1 << 10}
		}
		r := NewReader(bytes.NewReader(in), o)
		for last := 0; ; {
			rec, err := r.Next()
			if err != nil {
				return
			}
			if rec.Line <= last || !bytes.Contains(in, rec.Data) {
				t.Fatalf("line %d after %d is %q", rec.Line, last, rec.Data)
			}
			last = rec.Line
			if rec.Err != nil {
				continue
			}
			if !utf8.Valid(rec.Data) || !utf8.ValidString(rec.Key+rec.ID) || rec.Key == "" || fields &&
				(rec.ID == "" || !json.Valid(rec.Data)) {
				t.Fatalf("taken: %q with key %q and id %q", rec.Data, rec.Key, rec.ID)
			}
		}
	})
}
