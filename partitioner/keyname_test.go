package partitioner

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func plants() Topic {
	return Topic{Name: "plants", Partitions: 8, Subject: "plant.*.sensor.*.*", Key: []int{3, 1}}
}

// TestNamesMeanTheKeyAsPublishedAndAsItStands: what a publisher of ours makes of a name, and what a foreign client may
// have put into the subject just so.
func TestNamesMeanTheKeyAsPublishedAndAsItStands(t *testing.T) {
	for name, want := range map[string][]string{
		"c-17": {"c-17"}, "a b": {"a%20b"}, "a%20b": {"a%2520b", "a%20b"}, "joe@example.com": {"joe@example%2Ecom"},
		"50%": {"50%25", "50%"}, "x>y": {"x%3Ey", "x>y"}, "a*b": {"a%2Ab", "a*b"},
		"caf%c3%a9": {"caf%25c3%25a9", "caf%c3%a9"},
		"Zürich":    {"Z%C3%BCrich", "Zürich"}, "*": {"%2A"}, ">": {"%3E"}, ".": {"%2E"}, "a..b": {"a%2E%2Eb"},
		"\xff":    {"%FF"},
		"e\u0301": {"e%CC%81", "e\u0301"}, "\u00e9": {"%C3%A9", "\u00e9"}, "%=": nil, "%=50%": {"50%"}, "%=%=x": {"%=x"},
		"%=a b": nil, "%=a.b": nil, "": nil, strings.Repeat("x", 600): nil,
		"%=" + strings.Repeat("x", 600): {strings.Repeat("x", 600)}, strings.Repeat(".", 600): nil,
	} {
		if got, err := orders().KeysNamed(name); !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q means %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestNamesOfKeysOfSeveralTokens(t *testing.T) {
	for name, want := range map[string][]string{
		"x.p1": {"x.p1"}, "x y.p1": {"x%20y.p1"}, "x%2Ey.p1": {"x%252Ey.p1", "x%2Ey.p1"}, "%=ü.p1": {"ü.p1"},
		"x": nil, "x.": nil, ".x": nil, "x.y.z": nil, "%=x": nil,
	} {
		got, err := plants().KeysNamed(name)
		if !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q means %q, %v, want %q", name, got, err, want)
		}
		if strings.Count(name, ".") != 1 && !errors.Is(err, ErrSubject) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestKeysAreShownAsTheyArePastedBack(t *testing.T) {
	for key, want := range map[string]string{
		"c-17": "c-17", "a%20b": "a b", "joe@example%2Ecom": "joe@example.com", "a%2520b": "a%20b", "Z%C3%BCrich": "Zürich",
		"Zürich": "%=Zürich", "50%": "%=50%", "50%25": "50%", "caf%c3%a9": "%=caf%c3%a9", "%1B[31mk": "%=%1B[31mk",
		"%20a": "%=%20a",
		"%FF":  "%=%FF", "%E2%80%AEx": "%=%E2%80%AEx", "%25=x": "%=%25=x", "%=x": "%=%=x", "a%20b.c": "a b.c",
		"a%2Eb.c": "%=a%2Eb.c",
	} {
		if got := KeyName(key); got != want {
			t.Errorf("%q is shown as %q, want %q", key, got, want)
		}
	}
	hash := string(NewLetterKey("%sha256-x"))
	if KeyName(hash) != hash {
		t.Errorf("a hash is shown as %q", KeyName(hash))
	}
	chain := []string{"50%", "50%25", "50%2525", "Zürich", "Z%C3%BCrich", "c-17"}
	for key, name := range KeyNames(chain) {
		meant, err := orders().KeysNamed(name)
		meant = slices.DeleteFunc(meant, func(k string) bool { return !slices.Contains(chain, k) })
		if err != nil || len(meant) != 1 || meant[0] != key {
			t.Errorf("%q is shown as %q, which means %q, %v", key, name, meant, err)
		}
	}
}

// FuzzKeyName: whatever stands in a subject is found by the name under which it is shown.
func FuzzKeyName(f *testing.F) {
	for _, seed := range []string{"c-17", "50%", "a%20b", "%=", "%=%3D", "%sha256-00", "Zürich", "x.y", "%2E.%2e",
		"\u202e", "%25=x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		topic := orders()
		if strings.Contains(key, ".") {
			topic = plants()
		}
		if topic.checkKey(key) != nil || len(key) > MaxKey || LetterKey(key).Hashed() {
			return
		}
		meant, err := topic.KeysNamed(KeyName(key))
		if err != nil || !slices.Contains(meant, key) {
			t.Fatalf("%q is shown as %q, which means %q, %v", key, KeyName(key), meant, err)
		}
	})
}
