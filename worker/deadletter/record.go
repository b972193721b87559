package deadletter

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"leasehold/partitioner"
	"leasehold/worker/header"
)

// Reason is why a message was dead-lettered.
type Reason string

// Reasons of dead letters.
const (
	ReasonRejected    Reason = "rejected"     // The handler said that it will never work.
	ReasonMaxAttempts Reason = "max_attempts" // Every attempt failed.
	ReasonParked      Reason = "parked"       // An earlier message of its key was parked.
)

// Record is a message that was dead-lettered, with why and by whom.
type Record struct {
	partitioner.DeadLetterPlace
	Key       string // As Place.Key; its LetterKey may be a hash.
	Topic     string
	Subject   string // Subject that the publisher used.
	Reason    Reason
	Error     string // What the handler said last; at most header.MaxReason bytes.
	Attempts  int
	FirstFail time.Time // First failure seen by the owner that dead-lettered it; zero if it never failed.
	LastFail  time.Time
	Node      string // Who dead-lettered it, under which epoch.
	Epoch     uint64
	Published time.Time
	Requeues  int    // How often it has been requeued.
	LeftOut   string // What of the message could not be stored; empty: nothing.

	Headers map[string][]string // The publisher's.
	Data    []byte
	Stored  uint64 // Sequence among the dead letters; 0 if it is not stored yet.
}

// Headers of a stored dead letter. The publisher's own that begin with "Nats-" or "Leasehold-" keep their names behind
// header.OriginalPrefix: the broker would act on some of them again.
const (
	hdrReason       = header.Prefix + "Reason"
	hdrError        = header.Prefix + "Error"
	hdrAttempts     = header.Prefix + "Attempts"
	hdrFirstFailure = header.Prefix + "First-Failure"
	hdrLastFailure  = header.Prefix + "Last-Failure"
	hdrNode         = header.Prefix + "Node"
	hdrEpoch        = header.Prefix + "Epoch"
	hdrTopic        = header.Prefix + "Topic"
	hdrSubject      = header.Prefix + "Subject"
	hdrPublished    = header.Prefix + "Published"
	hdrKey          = header.Prefix + "Key"          // If the subject holds its hash only.
	hdrPackedBytes  = header.Prefix + "Packed-Bytes" // The payload begins with the publisher's headers, in so many bytes.
	hdrLeftOut      = header.Prefix + "Left-Out"
)

// maxHeaderBytes is how long the headers of a dead letter may get before the publisher's are packed. The broker
// accepts 64 KiB; our own headers, with a subject, a key and an error text of maximum length, take less than 11 KiB.
const maxHeaderBytes = 32 << 10

// encode returns the headers and payload of the stored dead letter. Sequence, key, partition and group are in its
// subject. The publisher's headers are headers of the dead letter, or the beginning of its payload if they do not fit
// or cannot be sent.
func (l *Record) encode() (headers map[string][]string, data []byte) {
	h := l.ownHeaders()
	plain := true
	for name, values := range l.Headers {
		plain = plain && header.Sendable(name, values)
		if header.Reserved(name) {
			name = header.OriginalPrefix + name
		}
		h[name] = values
	}
	if plain && header.Size(h) <= maxHeaderBytes {
		return h, l.Data
	}
	h = l.ownHeaders()
	packed := header.Pack(l.Headers)
	h[hdrPackedBytes] = []string{strconv.Itoa(len(packed))}
	return h, append(packed, l.Data...)
}

// ownHeaders returns the headers of the stored dead letter that are not the publisher's.
func (l *Record) ownHeaders() map[string][]string {
	h := make(map[string][]string, len(l.Headers)+14)
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{value}
		}
	}
	set(hdrReason, string(l.Reason))
	set(hdrError, header.OneLine(l.Error))
	set(hdrAttempts, strconv.Itoa(l.Attempts))
	set(hdrFirstFailure, header.TimeText(l.FirstFail))
	set(hdrLastFailure, header.TimeText(l.LastFail))
	set(hdrNode, l.Node)
	set(hdrEpoch, strconv.FormatUint(l.Epoch, 10))
	set(hdrTopic, l.Topic)
	set(hdrSubject, l.Subject)
	set(hdrPublished, header.TimeText(l.Published))
	set(header.Requeues, strconv.Itoa(l.Requeues))
	set(hdrLeftOut, header.OneLine(l.LeftOut))
	if l.LetterKey.Hashed() {
		set(hdrKey, l.Key)
	}
	return h
}

// WithoutHeaders returns the dead letter without the publisher's headers, with a note of what was left out and why.
func (l *Record) WithoutHeaders(why error) *Record {
	bare := *l
	bare.LeftOut = fmt.Sprintf("the message's %d headers, of %d bytes: %v", len(l.Headers), header.Size(l.Headers), why)
	bare.Headers = nil
	return &bare
}

// decode reads a stored dead letter. What is missing or invalid stays zero: a dead letter that cannot be shown in full
// still counts.
func decode(place partitioner.DeadLetterPlace, stored uint64, headers map[string][]string, data []byte) *Record {
	get := func(name string) string { return header.First(headers, name) }
	l := &Record{
		DeadLetterPlace: place, Key: string(place.LetterKey), Topic: get(hdrTopic), Subject: get(hdrSubject),
		Reason: Reason(get(hdrReason)),
		Error:  get(hdrError), FirstFail: header.ParseTime(get(hdrFirstFailure)),
		LastFail: header.ParseTime(get(hdrLastFailure)), Node: get(hdrNode),
		Published: header.ParseTime(get(hdrPublished)), LeftOut: get(hdrLeftOut), Headers: map[string][]string{}, Data: data,
		Stored: stored,
	}
	if key := get(hdrKey); place.LetterKey.Hashed() && key != "" {
		l.Key = key
	}
	l.Attempts, _ = strconv.Atoi(get(hdrAttempts))
	l.Requeues, _ = strconv.Atoi(get(header.Requeues))
	l.Epoch, _ = strconv.ParseUint(get(hdrEpoch), 10, 64)
	for name, values := range headers {
		original, ours := strings.CutPrefix(name, header.OriginalPrefix)
		if ours || !header.Reserved(name) {
			l.Headers[original] = values
		}
	}
	l.unpack(get(hdrPackedBytes))
	return l
}

// unpack takes the publisher's headers from the beginning of the payload, if they are there.
func (l *Record) unpack(length string) {
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 || n > len(l.Data) {
		return
	}
	if headers, err := header.Unpack(l.Data[:n]); err == nil {
		l.Headers, l.Data = headers, l.Data[n:]
	}
}

// RequeuesOf returns how often a message was requeued, by its headers.
func RequeuesOf(headers map[string][]string) int {
	n, _ := strconv.Atoi(header.First(headers, header.Requeues))
	return n
}
