package partitioner

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"leasehold/internal/admission"
)

// exactKey begins the name of a key that is given as it stands in the subject. No encoded key begins so: there, two
// hexadecimal digits follow a '%'.
const exactKey = "%="

// ExactKeyName is a name that means this key, as Place.Key has it, and no other.
func ExactKeyName(key string) string { return exactKey + key }

// IsExactKeyName reports whether a name gives a key as it stands in the subject.
func IsExactKeyName(name string) bool { return strings.HasPrefix(name, exactKey) }

// KeysNamed lists the keys, as Place.Key has them, that an operator can mean by a name: the key that EncodeKey makes of
// it, and the key that stands so in the subject, because a NATS client published it unencoded or because it was copied
// from there. A key of several tokens is named by them, joined by ".". After exactKey there is one reading, the second.
func (t Topic) KeysNamed(name string) ([]string, error) {
	if exact, ok := strings.CutPrefix(name, exactKey); ok {
		if err := t.checkKey(exact); err != nil {
			return nil, err
		}
		return []string{exact}, nil
	}
	encoded, err := t.encodeKey(name)
	var keys []string
	if err == nil {
		keys = append(keys, encoded)
	}
	if encoded != name && t.checkKey(name) == nil && checkKeyLength(len(name)) == nil {
		keys = append(keys, name)
	}
	if len(keys) == 0 {
		return nil, err
	}
	return keys, nil
}

// KeyTokens are the subject tokens of a key as Place.Key has it.
func (t Topic) KeyTokens(key string) []string {
	if len(t.Key) == 1 {
		return []string{key}
	}
	return strings.Split(key, ".")
}

// encodeKey makes a key of a name that is not encoded.
func (t Topic) encodeKey(name string) (string, error) {
	if name == "" {
		return "", refuse(ErrNoKey, "it is empty")
	}
	tokens := t.KeyTokens(name)
	if err := t.checkCount(name, tokens); err != nil {
		return "", err
	}
	encoded := make([]string, len(tokens))
	for i, token := range tokens {
		var err error
		if encoded[i], err = EncodeKey(token); err != nil {
			return "", err
		}
	}
	key := strings.Join(encoded, ".")
	return key, checkKeyLength(len(key))
}

// checkKey refuses what cannot be a key of the topic as it stands in the subject.
func (t Topic) checkKey(key string) error {
	tokens := strings.Split(key, ".")
	if err := t.checkCount(key, tokens); err != nil {
		return err
	}
	for _, token := range tokens {
		if err := checkToken(token); err != nil {
			return err
		}
	}
	return nil
}

func (t Topic) checkCount(key string, tokens []string) error {
	if len(tokens) != len(t.Key) {
		return fmt.Errorf("%w: topic %s has a key of %d tokens joined by dots, %s has %d", ErrSubject, t.Name, len(t.Key),
			admission.Quote(key), len(tokens))
	}
	return nil
}

// KeyName is how lists show a key, as Place.Key has it: decoded if its publisher encoded it as EncodeKey does and all
// of it is visible, else by its exact name. KeysNamed finds the key by it.
func KeyName(key string) string {
	if LetterKey(key).Hashed() {
		return key
	}
	tokens := strings.Split(key, ".")
	if len(tokens) > 1 {
		return keyNameOf(key, tokens)
	}
	raw := DecodeKey(key)
	if encoded, err := EncodeKey(raw); err != nil || encoded != key || !visible(raw) || IsExactKeyName(raw) ||
		LetterKey(raw).Hashed() {
		return ExactKeyName(key)
	}
	return raw
}

// keyNameOf is KeyName of a key of several tokens. Its dots stand between tokens, so none of them may be decoded to
// one.
func keyNameOf(key string, tokens []string) string {
	names := make([]string, len(tokens))
	for i, token := range tokens {
		names[i] = KeyName(token)
		if names[i] != token && strings.ContainsAny(names[i], ".") || IsExactKeyName(names[i]) {
			return ExactKeyName(key)
		}
	}
	return strings.Join(names, ".")
}

// visible reports whether an operator sees a text whole and can copy it.
func visible(text string) bool {
	hidden := func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }
	return !strings.ContainsFunc(text, hidden) && strings.TrimSpace(text) == text
}

// KeyNames are the names of keys that are shown together: KeyName, or the exact name where another of the keys could be
// meant by that.
func KeyNames(keys []string) map[string]string {
	names := make(map[string]string, len(keys))
	for _, key := range keys {
		names[key] = KeyName(key)
	}
	for key, name := range names {
		like := Topic{Key: make([]int, strings.Count(key, ".")+1)}
		meant, err := like.KeysNamed(name)
		other := func(k string) bool { _, shown := names[k]; return shown && k != key }
		if err == nil && slices.ContainsFunc(meant, other) {
			names[key] = ExactKeyName(key)
		}
	}
	return names
}
