package partitioner

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// DeadLetterKind says why a message was dead-lettered. It is a token of the subject, so that the parked keys of a
// partition can be told from its subjects alone.
type DeadLetterKind string

const (
	Dead   DeadLetterKind = "dead"   // This message failed permanently; others of its key were processed.
	Parked DeadLetterKind = "parked" // It waits with every later one of its key until the key is released.
)

// LetterKey is a message's key as the subject of its dead letter has it: the key itself, or its hash. Equal keys have
// equal letter keys, and no others have.
type LetterKey string

// hashedKey begins a letter key that is a hash. No encoded key begins so: there, two hexadecimal digits follow a '%'.
const hashedKey = "%sha256-"

// NewLetterKey is the letter key of a key as Place.Key has it. Plain NATS clients may use keys that are as long as the
// broker's protocol line, or that JSON cannot hold; these are hashed. So is a key that looks like a hash.
func NewLetterKey(key string) LetterKey {
	if key == "" || len(key) <= MaxKey && !strings.HasPrefix(key, hashedKey) && plainTokens(key) {
		return LetterKey(key)
	}
	sum := sha256.Sum256([]byte(key))
	return LetterKey(hashedKey + hex.EncodeToString(sum[:]))
}

// Hashed reports whether the letter key is a hash, so that the key stands elsewhere.
func (k LetterKey) Hashed() bool {
	digits, ok := strings.CutPrefix(string(k), hashedKey)
	sum, err := hex.DecodeString(digits)
	return ok && err == nil && len(sum) == sha256.Size && digits == strings.ToLower(digits)
}

// plainTokens reports whether a key can stand in a subject, in JSON and in a list with blanks between.
func plainTokens(key string) bool {
	for token := range strings.SplitSeq(key, ".") {
		if token == "" || token == "*" || token == ">" {
			return false
		}
		for _, r := range token {
			if r == unicode.ReplacementChar || r == ' ' || !unicode.IsPrint(r) {
				return false
			}
		}
	}
	return true
}

// DeadLetterPlace is where a dead letter is stored: "dlq.<group>.<partition>.<kind>.<key>.<seq>", each at most once.
type DeadLetterPlace struct {
	Group     string
	Partition int
	Kind      DeadLetterKind
	LetterKey LetterKey
	Seq       uint64 // In the topic.
}

// DeadLetterStream is the name of a group's stream of dead letters.
func DeadLetterStream(group string) string { return deadLetterPrefix + group }

// DeadLetterGroup is the group whose dead letters a stream of this name holds, if it holds any.
func DeadLetterGroup(stream string) (group string, ok bool) {
	return strings.CutPrefix(stream, deadLetterPrefix)
}

const deadLetterPrefix = "dlq_"

// Subject spells the place.
func (p DeadLetterPlace) Subject() string {
	return fmt.Sprintf("dlq.%s.%d.%s.%s.%d", p.Group, p.Partition, p.Kind, p.LetterKey, p.Seq)
}

// DeadLetterFilter matches a group's dead letters: of one partition unless it is negative, of one kind and one key
// unless they are empty.
func DeadLetterFilter(group string, partition int, kind DeadLetterKind, key LetterKey) string {
	number, which := "*", "*"
	if partition >= 0 {
		number = strconv.Itoa(partition)
	}
	if kind != "" {
		which = string(kind)
	}
	rest := ">"
	if key != "" {
		rest = string(key) + ".*"
	}
	return fmt.Sprintf("dlq.%s.%s.%s.%s", group, number, which, rest)
}

// ParseDeadLetter reads a subject that DeadLetterPlace.Subject spelled.
func ParseDeadLetter(subject string) (DeadLetterPlace, error) {
	parts := strings.SplitN(subject, ".", 5)
	if len(parts) != 5 || parts[0] != "dlq" {
		return DeadLetterPlace{}, fmt.Errorf("%q is not a valid subject of a dead letter", subject)
	}
	p := DeadLetterPlace{Group: parts[1], Kind: DeadLetterKind(parts[3])}
	partition, err1 := strconv.Atoi(parts[2])
	dot := strings.LastIndexByte(parts[4], '.')
	if err1 != nil || partition < 0 || dot <= 0 || p.Kind != Dead && p.Kind != Parked {
		return DeadLetterPlace{}, fmt.Errorf("%q is not a valid subject of a dead letter", subject)
	}
	seq, err := strconv.ParseUint(parts[4][dot+1:], 10, 64)
	if err != nil {
		return DeadLetterPlace{}, fmt.Errorf("%q is not a valid subject of a dead letter: %w", subject, err)
	}
	p.Partition, p.LetterKey, p.Seq = partition, LetterKey(parts[4][:dot]), seq
	return p, nil
}
