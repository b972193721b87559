package partitioner

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"leasehold/internal/bytesize"
	"leasehold/internal/fielderr"
	"leasehold/internal/validname"
)

const (
	// MaxPartitions is the most partitions a topic may have. Each costs every group of the topic a lease that all
	// nodes poll; 1,024 is the size that is measured, the rest is headroom.
	MaxPartitions = 4096
	// MaxDedupWindow bounds the broker's memory for message ids, which it keeps for the whole window.
	MaxDedupWindow = 24 * time.Hour
	// MinDedupWindow leaves the publisher's retries, which end at half of it, time to outlast an election.
	MinDedupWindow = 10 * time.Second
	// DefaultDedupWindow is what WithDefaults fills in.
	DefaultDedupWindow = 2 * time.Minute

	maxWildcards = 8
	maxPattern   = 256 // bytes
)

// Topic is the definition of a topic, as in the config. Partitions, Subject and Key can never change once the topic
// exists; MaxBytes, Retain and DedupWindow can.
type Topic struct {
	// Name is 1 to 64 letters, digits, '-' and '_', beginning with a letter or digit; it names the stream too.
	Name string `toml:"name"`
	// Partitions is the number of partitions, 1 to MaxPartitions.
	Partitions int `toml:"partitions"`
	// Subject is the pattern publishers send to, with a '*' for each token that varies. Default "<name>.*".
	Subject string `toml:"subject"`
	// Key lists the wildcards of Subject that make the key, counted from 1, in the order they are hashed. Default [1].
	Key []int `toml:"key"`
	// MaxBytes is when the topic is full and refuses messages. 0 leaves it to Sizing.
	MaxBytes bytesize.Size `toml:"max_bytes"`
	// Retain is how long a message stays for replay after every group has processed it.
	Retain time.Duration `toml:"retain"`
	// RetainStated is set where Retain is in the file. A topic that exists keeps its own where it is not.
	RetainStated bool
	// DedupWindow is how long the broker remembers message ids.
	DedupWindow time.Duration `toml:"dedup_window"`
}

var literalToken = regexp.MustCompile(`^[A-Za-z0-9_~:@/+=-]+$`)

// Stated is called with each key that the file has.
func (t *Topic) Stated(key string) {
	if key == "retain" {
		t.RetainStated = true
	}
}

// WithDefaults fills in what is left out, save MaxBytes.
func (t Topic) WithDefaults() Topic {
	if t.Subject == "" {
		t.Subject = t.Name + ".*"
	}
	if len(t.Key) == 0 {
		t.Key = []int{1}
	}
	if t.DedupWindow == 0 {
		t.DedupWindow = DefaultDedupWindow
	}
	return t
}

// Validate returns every fault of a topic with its defaults filled in, each a *fielderr.Error.
func (t Topic) Validate() error {
	faults := fielderr.NewList("topic." + t.Name + ".")
	fault := faults.Add
	if text := t.nameFault(); text != "" {
		fault("name", "%s", text)
	}
	if t.Partitions < 1 || t.Partitions > MaxPartitions {
		fault("partitions", "%d is not within 1 to %d", t.Partitions, MaxPartitions)
	}
	if text := t.subjectFault(); text != "" {
		fault("subject", "%q %s", t.Subject, text)
	}
	if text := t.keyFault(); text != "" {
		fault("key", "%v %s", t.Key, text)
	}
	if t.MaxBytes < 0 {
		fault("max_bytes", "must not be negative")
	}
	if t.Retain < 0 {
		fault("retain", "must not be negative")
	}
	if t.DedupWindow < MinDedupWindow || t.DedupWindow > MaxDedupWindow {
		fault("dedup_window", "%v is not within %v to %v", t.DedupWindow, MinDedupWindow, MaxDedupWindow)
	}
	return faults.Err()
}

// nameFault says what is wrong with the name. Reserved are the names of streams of our own and of key-value and
// object stores, in any case, so that an operator's tools do not mistake a topic for one.
func (t Topic) nameFault() string {
	if !validname.OK(t.Name) {
		return fmt.Sprintf("%q %s", t.Name, validname.Rule)
	}
	if first, reserved := reservedToken(t.Name); reserved {
		return fmt.Sprintf("%q is reserved (%s)", t.Name, first)
	}
	return ""
}

// reservedToken reports whether a topic's name, or the first token of its subject, belongs to somebody else.
func reservedToken(token string) (string, bool) {
	lower := strings.ToLower(token)
	for _, name := range []string{"dlq", "leasehold"} {
		if lower == name {
			return name, true
		}
	}
	for _, prefix := range []string{"dlq_", "leasehold_", "leasehold-", "kv_", "obj_", "_", "$"} {
		if strings.HasPrefix(lower, prefix) {
			return prefix + "…", true
		}
	}
	return "", false
}

func (t Topic) subjectFault() string {
	if len(t.Subject) > maxPattern {
		return fmt.Sprintf("is longer than %d bytes", maxPattern)
	}
	if n := strings.Count(t.Subject, "*"); n == 0 || n > maxWildcards {
		return fmt.Sprintf("must have 1 to %d wildcards '*'", maxWildcards)
	}
	tokens := strings.Split(t.Subject, ".")
	for _, token := range tokens {
		if token == ">" {
			return "must not contain '>': every token that varies needs a '*' of its own"
		}
		if token != "*" && !literalToken.MatchString(token) {
			return fmt.Sprintf("has the token %q: use '*' alone, or letters, digits and - _ ~ : @ / + =", token)
		}
	}
	if tokens[0] == "*" {
		return "must not begin with a wildcard: it would take in other subjects of the broker"
	}
	if first, reserved := reservedToken(tokens[0]); reserved {
		return fmt.Sprintf("begins with %q, which is reserved (%s)", tokens[0], first)
	}
	if t.takesStored(t.Name) {
		return fmt.Sprintf("takes in %s.<number>.<number>.…, where the topic's messages are stored; these are not open for "+
			"publishing", t.Name)
	}
	return ""
}

// takesStored reports whether the topic's subject can match what a topic of this name stores its messages under:
// "<topic>.<layout>.<partition>.<token>…", in this layout or a later one and however many wildcards it has.
func (t Topic) takesStored(topic string) bool {
	tokens := strings.Split(t.Subject, ".")
	return len(tokens) > 3 && tokens[0] == topic && canBeNumber(tokens[1]) && canBeNumber(tokens[2])
}

func canBeNumber(token string) bool {
	_, err := strconv.ParseUint(token, 10, 64)
	return token == "*" || err == nil
}

func (t Topic) keyFault() string {
	n := strings.Count(t.Subject, "*")
	for i, index := range t.Key {
		if index < 1 || index > n {
			return fmt.Sprintf("names wildcard %d, but the subject %q has %d", index, t.Subject, n)
		}
		if slices.Contains(t.Key[:i], index) {
			return fmt.Sprintf("names wildcard %d twice", index)
		}
	}
	if len(t.Key) == 0 {
		return "names no wildcard"
	}
	return ""
}

// CheckOverlap reports topics that share a name, a subject, or whose subject takes in what another one stores. Each
// fault is a *fielderr.Error whose key names the topic by its index, like "topic[0].subject". The broker refuses the
// first two as well, but only once the nodes run.
func CheckOverlap(topics []Topic) error {
	var errs []error
	fault := func(i int, key, format string, args ...any) {
		errs = append(errs, &fielderr.Error{
			Key:  fielderr.Join(fielderr.Element("topic", i), key),
			Name: "topic." + topics[i].Name + "." + key,
			Err:  fmt.Errorf(format, args...),
		})
	}
	stored := func(i int, other Topic) {
		fault(i, "subject", "%q takes in %s.<number>.<number>.…, where topic %s stores its messages", topics[i].Subject,
			other.Name, other.Name)
	}
	for i, a := range topics {
		for j, b := range topics[:i] {
			switch {
			case a.Name == b.Name:
				fault(i, "name", "there are two topics of this name")
			case overlap(a.Subject, b.Subject):
				fault(j, "subject", "%q overlaps with %q of topic %s", b.Subject, a.Subject, a.Name)
			case a.takesStored(b.Name):
				stored(i, b)
			case b.takesStored(a.Name):
				stored(j, a)
			}
		}
	}
	return errors.Join(errs...)
}
