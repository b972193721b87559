package worker

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"leasehold/partitioner"
)

// LetterReason is why a message became a dead letter.
type LetterReason string

// Reasons of dead letters.
const (
	ReasonRejected    LetterReason = "rejected"     // The handler said that it will never work.
	ReasonMaxAttempts LetterReason = "max_attempts" // Every attempt failed.
	ReasonParked      LetterReason = "parked"       // An earlier message of its key was parked.
)

// Letter is a message that was set aside, with all that is known of why.
type Letter struct {
	partitioner.DeadLetterPlace
	Key       string // As Place.Key; its LetterKey may be a hash.
	Topic     string
	Subject   string // Subject that the publisher used.
	Reason    LetterReason
	Error     string // What the handler said last; at most maxReason bytes.
	Attempts  int
	FirstFail time.Time // First failure that the owner that set it aside has seen; zero if it never failed.
	LastFail  time.Time
	Node      string // Who set it aside, under which epoch.
	Epoch     uint64
	Published time.Time
	Requeues  int    // How often it has been sent to its topic again.
	LeftOut   string // What of the message could not be stored; empty: nothing.

	Headers map[string][]string // The publisher's.
	Data    []byte
	Stored  uint64 // Sequence among the dead letters; 0 if it is not stored yet.
}

// Headers of a stored dead letter. The publisher's own that begin with "Nats-" or "Leasehold-" keep their names behind
// originalPrefix: the broker would act on some of them again.
const (
	hdrReason       = headerPrefix + "Reason"
	hdrError        = headerPrefix + "Error"
	hdrAttempts     = headerPrefix + "Attempts"
	hdrFirstFailure = headerPrefix + "First-Failure"
	hdrLastFailure  = headerPrefix + "Last-Failure"
	hdrNode         = headerPrefix + "Node"
	hdrEpoch        = headerPrefix + "Epoch"
	hdrTopic        = headerPrefix + "Topic"
	hdrSubject      = headerPrefix + "Subject"
	hdrPublished    = headerPrefix + "Published"
	hdrKey          = headerPrefix + "Key"          // If the subject holds its hash only.
	hdrPackedBytes  = headerPrefix + "Packed-Bytes" // The payload begins with the publisher's headers, in so many bytes.
	hdrLeftOut      = headerPrefix + "Left-Out"
)

// letterHeaderBytes is how long the headers of a letter may get before the publisher's are packed. The broker takes 64 KiB;
// what is our own, with a subject, a key and an error text of the greatest length, is below 11 KiB.
const letterHeaderBytes = 32 << 10

// encode makes headers and payload of the stored letter. Sequence, key, partition and group stand in its subject. The
// publisher's headers are headers of the letter, or the beginning of its payload if they do not fit or cannot be sent.
func (l *Letter) encode() (headers map[string][]string, data []byte) {
	h := l.ownHeaders()
	plain := true
	for name, values := range l.Headers {
		plain = plain && sendable(name, values)
		if reservedHeader(name) {
			name = originalPrefix + name
		}
		h[name] = values
	}
	if plain && headerBytes(h) <= letterHeaderBytes {
		return h, l.Data
	}
	h = l.ownHeaders()
	packed := packHeaders(l.Headers)
	h[hdrPackedBytes] = []string{strconv.Itoa(len(packed))}
	return h, append(packed, l.Data...)
}

// ownHeaders are the headers of the stored letter that are not the publisher's.
func (l *Letter) ownHeaders() map[string][]string {
	h := make(map[string][]string, len(l.Headers)+14)
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{value}
		}
	}
	set(hdrReason, string(l.Reason))
	set(hdrError, oneLine(l.Error))
	set(hdrAttempts, strconv.Itoa(l.Attempts))
	set(hdrFirstFailure, TimeText(l.FirstFail))
	set(hdrLastFailure, TimeText(l.LastFail))
	set(hdrNode, l.Node)
	set(hdrEpoch, strconv.FormatUint(l.Epoch, 10))
	set(hdrTopic, l.Topic)
	set(hdrSubject, l.Subject)
	set(hdrPublished, TimeText(l.Published))
	set(hdrRequeues, strconv.Itoa(l.Requeues))
	set(hdrLeftOut, oneLine(l.LeftOut))
	if l.LetterKey.Hashed() {
		set(hdrKey, l.Key)
	}
	return h
}

// bare is the letter without the publisher's headers, which says so.
func (l *Letter) bare(why error) *Letter {
	bare := *l
	bare.LeftOut = fmt.Sprintf("the message's %d headers, of %d bytes: %v", len(l.Headers), headerBytes(l.Headers), why)
	bare.Headers = nil
	return &bare
}

// decodeLetter reads a stored letter. What is missing or makes no sense stays zero: a letter that cannot be shown in full
// is still one.
func decodeLetter(place partitioner.DeadLetterPlace, stored uint64, headers map[string][]string, data []byte) *Letter {
	get := func(name string) string { return first(headers, name) }
	l := &Letter{
		DeadLetterPlace: place, Key: string(place.LetterKey), Topic: get(hdrTopic), Subject: get(hdrSubject), Reason: LetterReason(get(hdrReason)),
		Error: get(hdrError), FirstFail: parseTime(get(hdrFirstFailure)), LastFail: parseTime(get(hdrLastFailure)), Node: get(hdrNode),
		Published: parseTime(get(hdrPublished)), LeftOut: get(hdrLeftOut), Headers: map[string][]string{}, Data: data, Stored: stored,
	}
	if key := get(hdrKey); place.LetterKey.Hashed() && key != "" {
		l.Key = key
	}
	l.Attempts, _ = strconv.Atoi(get(hdrAttempts))
	l.Requeues, _ = strconv.Atoi(get(hdrRequeues))
	l.Epoch, _ = strconv.ParseUint(get(hdrEpoch), 10, 64)
	for name, values := range headers {
		original, ours := strings.CutPrefix(name, originalPrefix)
		if ours || !reservedHeader(name) {
			l.Headers[original] = values
		}
	}
	l.unpack(get(hdrPackedBytes))
	return l
}

// unpack takes the publisher's headers from the beginning of the payload, if they are there.
func (l *Letter) unpack(length string) {
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 || n > len(l.Data) {
		return
	}
	if headers, err := unpackHeaders(l.Data[:n]); err == nil {
		l.Headers, l.Data = headers, l.Data[n:]
	}
}

// requeues is how often a message was sent to its topic again, by its headers.
func requeues(headers map[string][]string) int {
	n, _ := strconv.Atoi(first(headers, hdrRequeues))
	return n
}
