package jsondata

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestOneValueIsReadWholeOrRefused(t *testing.T) {
	for text, want := range map[string]error{
		`{"a":1}`:            nil,
		" [1, 2]\t\r\n":      nil,
		`"ü"`:                nil,
		`"\ud800"`:           nil, // Grammar has nothing against it; Text has.
		``:                   ErrTruncated,
		`{"a":1`:             ErrTruncated,
		`{"a":1}{"a":2}`:     ErrTrailing,
		`{"a":1},`:           ErrTrailing,
		`{"a":1} // comment`: ErrTrailing,
		`{"a":1}]`:           ErrTrailing,
		"{}\x00":             ErrTrailing,
		`{'a':1}`:            ErrNotJSON,
		`NaN`:                ErrNotJSON,
		"\ufeff{}":           ErrNotJSON,
		"{\"a\":\"M\xfc\"}":  ErrEncoding,
		"\"\xed\xa0\x80\"":   ErrEncoding, // A surrogate in UTF-8's clothes.
	} {
		if err := Check([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", text, err, want)
		}
	}
}

func TestObjectsAreTakenApartAsTheyAreWritten(t *testing.T) {
	fields, err := Object([]byte(` {"n" : 1.50, "o":{"a":[1, 2]} ,"t":"x" }`))
	if err != nil || string(fields["n"]) != "1.50" || string(fields["o"]) != `{"a":[1, 2]}` ||
		string(fields["t"]) != `"x"` || len(fields) != 3 {
		t.Errorf("got %q, %v", fields, err)
	}
	for text, want := range map[string]error{
		`[]`:                       ErrNotObject,
		`null`:                     ErrNotObject,
		`{} {}`:                    ErrTrailing,
		`{"a":1,"b":2,"\u0061":3}`: ErrRepeated,
		`{"\udc00":1}`:             ErrSurrogate,
	} {
		if _, err := Object([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", text, err, want)
		}
	}
}

func TestArraysAreTakenApartAndBounded(t *testing.T) {
	elements, err := Array([]byte("[ {\"a\": 1},\n2 ]"), 2)
	if err != nil || len(elements) != 2 || string(elements[0]) != `{"a": 1}` || string(elements[1]) != "2" {
		t.Errorf("got %q, %v", elements, err)
	}
	if elements, err := Array([]byte("[1,2,3]"), 2); err != nil || len(elements) != 2 {
		t.Errorf("got %q, %v", elements, err)
	}
	if _, err := Array([]byte("{}"), 2); !errors.Is(err, ErrNotArray) {
		t.Errorf("got %v", err)
	}
}

func TestHalvesOfSurrogatePairsAreNoText(t *testing.T) {
	for value, want := range map[string]string{`"\ud83d\ude00"`: "😀", `"\\ud800"`: `\ud800`, `"\u00fc"`: "ü",
		`"\ufffd"`: "\ufffd", `"\ud7ff"`: "\ud7ff"} {
		if got, err := Text([]byte(value)); err != nil || got != want {
			t.Errorf("%s: got %q, %v", value, got, err)
		}
	}
	for _, value := range []string{`"\ud83d"`, `"\uDE00"`, `"\ude00\ud83d"`, `"\ud83dx\ude00"`, `"\ud83d\\ude00"`,
		`"\\\ud800"`, `"\ud800\ud83d\ude00"`} {
		if got, err := Text([]byte(value)); !errors.Is(err, ErrSurrogate) {
			t.Errorf("%s: got %q, %v", value, got, err)
		}
	}
	for _, value := range []string{``, `1`, `null`, `["a"]`} {
		if got, err := Text([]byte(value)); !errors.Is(err, ErrNotText) {
			t.Errorf("%s: got %q, %v", value, got, err)
		}
	}
}

func TestOtherEncodingsAreNamed(t *testing.T) {
	for start, utf8 := range map[string]bool{
		"\xff\xfe{\x00": false, "\xfe\xff\x00{": false, "{\x00\"\x00": false, "\x00{\x00\"": false, "\xff\xfe\x00\x00": false,
		"\ufeff{}": true, "{}": true, "": true, "M\xfcll": true, // The last one is for CheckEncoding.
	} {
		if err := CheckStart([]byte(start)); (err == nil) != utf8 || !utf8 && !strings.Contains(err.Error(), "UTF-16") {
			t.Errorf("%q: %v", start, err)
		}
	}
	if err := CheckEncoding([]byte("aü\xfc")); !errors.Is(err, ErrEncoding) ||
		!strings.Contains(err.Error(), "byte 4 is 0xfc") {
		t.Errorf("got %v", err)
	}
	if got := TrimBOM([]byte("\ufeff\ufeffx")); string(got) != "\ufeffx" {
		t.Errorf("got %q", got)
	}
}

// FuzzPartsAreWhatADecoderFinds: objects and arrays are taken apart as package json does.
func FuzzPartsAreWhatADecoderFinds(f *testing.F) {
	for _, text := range []string{`{"a":[1,{"b":"]}\\\""}], "c" : -1.5e3 ,"d":null}`, "[ ]", "{\n}",
		`[[],{"a":{}},"\u005c\"",true , 0]`, `{"a":1}{}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := Check(text); (err == nil) != (utf8.Valid(text) && json.Valid(text)) {
			t.Fatalf("%q: %v", text, err)
		}
		if fields, err := Object(text); err == nil {
			var want map[string]json.RawMessage
			if err := json.Unmarshal(text, &want); err != nil || !reflect.DeepEqual(fields, want) {
				t.Fatalf("%q: got %q, want %q, %v", text, fields, want, err)
			}
		}
		if elements, err := Array(text, len(text)); err == nil {
			var want []json.RawMessage
			if err := json.Unmarshal(text, &want); err != nil || len(want) != len(elements) || len(want) > 0 &&
				!reflect.DeepEqual(elements, want) {
				t.Fatalf("%q: got %q, want %q, %v", text, elements, want, err)
			}
		}
	})
}
