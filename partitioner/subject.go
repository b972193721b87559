package partitioner

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"leasehold/internal/admission"
)

// Layout is the version of the stored subjects' layout, their second token. A topic's stream keeps the layout it
// was made with; repartitioning, one day, is a new stream of the next one.
const Layout = 1

const layoutToken = "1"

// ErrSubject is for a subject that is not one of the topic's.
var ErrSubject = errors.New("subject does not belong to the topic")

// Place is where a message belongs.
type Place struct {
	Partition int    // 0 to Partitions-1
	Key       string // key tokens as they stand in the subject, joined by "."
	Subject   string // the publisher's subject
}

// PublishSubject fills the topic's subject pattern with key tokens (encoded, see EncodeKey), the i-th for the i-th
// entry of Key. It is only for patterns whose wildcards all belong to the key: otherwise the key does not say the
// whole subject, and the publisher must.
func (t Topic) PublishSubject(keyTokens ...string) (string, error) {
	if n := strings.Count(t.Subject, "*"); n != len(t.Key) {
		return "", refuse(ErrSubject,
			"topic %s has the subject %q with wildcards outside its key: give the full subject instead of a key", t.Name,
			t.Subject)
	}
	if len(keyTokens) != len(t.Key) {
		return "", refuse(ErrSubject, "topic %s has a key of %d tokens in its subject %q, got %d: give the full subject",
			t.Name, len(t.Key), t.Subject, len(keyTokens))
	}
	var buf [maxWildcards]string
	wild := append(buf[:0], keyTokens...)
	for i, index := range t.Key {
		if err := checkToken(keyTokens[i]); err != nil {
			return "", err
		}
		wild[index-1] = keyTokens[i]
	}
	return fill(t.Subject, wild), nil
}

// Placement is the place of a publisher's subject. It wraps ErrNoKey, ErrKeyTooLong or ErrSubject, and an
// *admission.Refusal. It allocates only for a key whose tokens do not stand side by side in the subject.
func (t Topic) Placement(subject string) (Place, error) {
	if len(subject) > admission.MaxSubject {
		return Place{}, refuse(ErrSubject, "subject %s has %d bytes, at most %d are allowed", admission.Quote(subject),
			len(subject), admission.MaxSubject)
	}
	var buf [maxWildcards]string
	var at [maxWildcards]int
	wild := buf[:0]
	rest, more := subject, true
	pattern, patternMore := t.Subject, true
	for more && patternMore {
		var got, want string
		start := len(subject) - len(rest)
		got, rest, more = strings.Cut(rest, ".")
		want, pattern, patternMore = strings.Cut(pattern, ".")
		if want != "*" {
			if got != want {
				return Place{}, t.strange(subject)
			}
			continue
		}
		if err := checkToken(got); err != nil {
			return Place{}, err
		}
		at[len(wild)] = start
		wild = append(wild, got)
	}
	if more || patternMore {
		return Place{}, t.strange(subject)
	}
	if err := checkKeyLength(t.keyLength(wild)); err != nil {
		return Place{}, err
	}
	return t.place(subject, wild, at[:]), nil
}

// Parse is the place of a stored subject. The partition is taken from the subject, where the broker put it.
func (t Topic) Parse(stored string) (Place, error) {
	rest, ok := strings.CutPrefix(stored, t.Name)
	rest, isLayout := strings.CutPrefix(rest, "."+layoutToken+".")
	number, rest, more := strings.Cut(rest, ".")
	partition, err := strconv.Atoi(number)
	if !ok || !isLayout || !more || err != nil || partition < 0 || partition >= t.Partitions {
		return Place{}, t.strange(stored)
	}
	var buf [maxWildcards]string
	wild := buf[:0]
	for more {
		var token string
		token, rest, more = strings.Cut(rest, ".")
		wild = append(wild, token)
	}
	if len(wild) != strings.Count(t.Subject, "*") {
		return Place{}, t.strange(stored)
	}
	return Place{Partition: partition, Key: t.joinKey(wild), Subject: fill(t.Subject, wild)}, nil
}

// PartitionFilter matches the stored subjects of one partition: "<topic>.1.<p>.>".
func (t Topic) PartitionFilter(p int) string {
	return t.Name + "." + layoutToken + "." + strconv.Itoa(p) + ".>"
}

// KeyFilter matches the stored subjects of one key, as Place.Key has it, and only those.
func (t Topic) KeyFilter(key string) string {
	tokens := t.KeyTokens(key)
	wild := make([]string, strings.Count(t.Subject, "*"))
	for i := range wild {
		wild[i] = "*"
	}
	for i, index := range t.Key {
		wild[index-1] = tokens[i]
	}
	return strings.Join(append([]string{t.Name, layoutToken, strconv.Itoa(t.PartitionOf(key))}, wild...), ".")
}

// PartitionOf is the partition of a key as Place.Key has it.
func (t Topic) PartitionOf(key string) int { return Of(t.Partitions, t.KeyTokens(key)...) }

// StoredFilter matches every stored subject of the topic: "<topic>.1.>".
func (t Topic) StoredFilter() string { return t.Name + "." + layoutToken + ".>" }

// Transform is the destination of the stream's subject transform; its source is the topic's subject.
func (t Topic) Transform() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.%s.{{partition(%d", t.Name, layoutToken, t.Partitions)
	for _, index := range t.Key {
		fmt.Fprintf(&b, ",%d", index)
	}
	b.WriteString(")}}")
	for i := range strings.Count(t.Subject, "*") {
		fmt.Fprintf(&b, ".{{wildcard(%d)}}", i+1)
	}
	return b.String()
}

func (t Topic) place(subject string, wild []string, at []int) Place {
	var buf [maxWildcards]string
	key, ok := t.keyWithin(subject, wild, at)
	if !ok {
		key = t.joinKey(wild)
	}
	return Place{Partition: Of(t.Partitions, t.keyTokens(buf[:0], wild)...), Key: key, Subject: subject}
}

// keyWithin is the key as a part of its subject, if its tokens stand side by side there. at is where each of wild
// begins.
func (t Topic) keyWithin(subject string, wild []string, at []int) (string, bool) {
	begin := at[t.Key[0]-1]
	end := begin - 1
	for _, index := range t.Key {
		if at[index-1] != end+1 {
			return "", false
		}
		end = at[index-1] + len(wild[index-1])
	}
	return subject[begin:end], true
}

// keyLength is how long a key is with the dots between its tokens.
func (t Topic) keyLength(wild []string) int {
	n := len(t.Key) - 1
	for _, index := range t.Key {
		n += len(wild[index-1])
	}
	return n
}

func (t Topic) keyTokens(into, wild []string) []string {
	for _, index := range t.Key {
		into = append(into, wild[index-1])
	}
	return into
}

func (t Topic) joinKey(wild []string) string {
	if len(t.Key) == 1 {
		return wild[t.Key[0]-1]
	}
	var buf [maxWildcards]string
	return strings.Join(t.keyTokens(buf[:0], wild), ".")
}

func (t Topic) strange(subject string) error {
	return refuse(ErrSubject, "%s is not among %q of topic %s", admission.Quote(subject), t.Subject, t.Name)
}

// fill puts tokens in the places of a pattern's wildcards, in order.
func fill(pattern string, wild []string) string {
	var b strings.Builder
	b.Grow(len(pattern) + len(wild)*16)
	for _, token := range wild {
		literal, rest, _ := strings.Cut(pattern, "*")
		b.WriteString(literal)
		b.WriteString(token)
		pattern = rest
	}
	b.WriteString(pattern)
	return b.String()
}

// checkToken refuses what cannot stand for a wildcard in a published subject.
func checkToken(token string) error {
	if token == "" {
		return refuse(ErrNoKey, "a token of the subject is empty")
	}
	if admission.Subject(token) != nil {
		return refuse(ErrSubject, "%s is not a valid subject token", admission.Quote(token))
	}
	return nil
}

// overlap reports whether a subject can match both patterns.
func overlap(a, b string) bool {
	aMore, bMore := true, true
	for aMore && bMore {
		var x, y string
		x, a, aMore = strings.Cut(a, ".")
		y, b, bMore = strings.Cut(b, ".")
		if x == ">" || y == ">" {
			return true
		}
		if x != y && x != "*" && y != "*" {
			return false
		}
	}
	return aMore == bMore
}
