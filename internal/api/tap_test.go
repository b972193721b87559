package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"leasehold/internal/jsondata"
)

// fakeTaps has the messages 1 to 3. A tap that follows waits behind them.
type fakeTaps struct{ opened chan TapOptions }

func (f fakeTaps) Tap(_ context.Context, _ string, o TapOptions) (MessageReader, error) {
	if o.Key == "broken" {
		return nil, Mark(ErrNotYet, "no leader")
	}
	if f.opened != nil {
		f.opened <- o
	}
	return &fakeReader{o: o}, nil
}

func (fakeTaps) Message(_ context.Context, topic string, seq uint64) (*Message, error) {
	if seq > 3 {
		return nil, Mark(ErrNotFound, "message is not stored yet")
	}
	return &Message{Topic: topic, Seq: seq, Payload: jsondata.New([]byte{0xff})}, nil
}

func (fakeTaps) Key(_ context.Context, topic, name string) (*KeyInfo, error) {
	return &KeyInfo{Topic: topic, Key: name, Partition: 3}, nil
}

func (fakeTaps) Count(_ context.Context, _ string, o CountOptions) (uint64, error) {
	return o.Before - o.After - 1, nil
}

type fakeReader struct {
	o   TapOptions
	seq uint64
}

func (f *fakeReader) Next(ctx context.Context) (*Message, error) {
	if f.seq == 3 && f.o.Follow {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if f.seq == 3 && f.o.FromSeq == 7 {
		return nil, errors.New("the broker went away")
	}
	if f.seq == 3 {
		return nil, io.EOF
	}
	f.seq++
	return &Message{Seq: f.seq, Payload: jsondata.New([]byte("hi"))}, nil
}

func (f *fakeReader) Close() {}

func tapAll(t *testing.T, c *Client, o TapOptions) (seqs []uint64, err error) {
	t.Helper()
	s, err := c.Tap(t.Context(), "orders", o)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for {
		m, err := s.Next()
		if err != nil {
			return seqs, err
		}
		seqs = append(seqs, m.Seq)
	}
}

func TestTapBringsMessagesAndItsEnd(t *testing.T) {
	_, socket := serveMessages(t, &fakeMessages{}, "")
	c := NewClient(socket)
	if seqs, err := tapAll(t, c, TapOptions{}); fmt.Sprint(seqs) != "[1 2 3]" || !errors.Is(err, io.EOF) {
		t.Errorf("got %v, %v", seqs, err)
	}
	if seqs, err := tapAll(t, c, TapOptions{FromSeq: 7}); len(seqs) != 3 || err == nil ||
		err.Error() != "the broker went away" {
		t.Errorf("an error on the way: got %v, %v", seqs, err)
	}
	if _, err := tapAll(t, c, TapOptions{Key: "broken"}); !errors.Is(err, ErrNotYet) ||
		!strings.Contains(err.Error(), "no leader") {
		t.Errorf("an error at the start: %v", err)
	}
	if m, err := c.Message(t.Context(), "orders", 2); err != nil || m.Seq != 2 || string(m.Bytes()) != "\xff" {
		t.Errorf("one message: %+v, %v", m, err)
	}
	if _, err := c.Message(t.Context(), "orders", 4); !errors.Is(err, ErrNotFound) {
		t.Errorf("a message that is not there: %v", err)
	}
	if k, err := c.Key(t.Context(), "orders", "50%&name=x"); err != nil || k.Key != "50%&name=x" || k.Partition != 3 {
		t.Errorf("key %+v, %v", k, err)
	}
	if n, err := c.Count(t.Context(), "orders", CountOptions{Partition: 3, After: 5, Before: 9}); err != nil || n != 3 {
		t.Errorf("count: %d, %v", n, err)
	}
}

func TestTapOptionsComeThrough(t *testing.T) {
	opened := make(chan TapOptions, 1)
	_, socket := serveMessages(t, &fakeMessages{fakeTaps: fakeTaps{opened}}, "")
	three := 3
	for _, o := range []TapOptions{{Last: 0}, {Last: 5, Key: "a b&c"}, {FromSeq: 9, Partition: &three},
		{Since: 10 * time.Minute}, {Since: 24 * time.Hour}} {
		if _, err := tapAll(t, NewClient(socket), o); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		got := <-opened
		if o.Partition != nil {
			if *got.Partition != 3 {
				t.Errorf("got partition %d", *got.Partition)
			}
			got.Partition = o.Partition
		}
		if o.FromSeq > 0 || o.Since > 0 {
			o.Last = DefaultLast // Where nothing is said; it does not count.
		}
		if got != o {
			t.Errorf("got %+v, want %+v", got, o)
		}
	}
}

func TestBadTapParametersAreNamed(t *testing.T) {
	_, socket := serveMessages(t, &fakeMessages{}, "")
	c := NewClient(socket)
	for path, want := range map[string]string{
		"/tap?partition=64":                      "partition=64 is not a number from 0 to 63",
		"/tap?partition=1&key=a":                 "exclude each other",
		"/tap?last=3&from_seq=1":                 "exclude each other",
		"/tap?key=":                              `"key" is empty`,
		"/tap?since=yesterday":                   "since=yesterday",
		"/tap?last=100001":                       "last=100001",
		"/tap?from_seq=0":                        "from_seq=0",
		"/tap?groups=1":                          `"groups"`,
		"/messages/x":                            `"x" is not a sequence`,
		"/messages/0":                            `"0" is not a sequence`,
		"/count?partition=3&after=x&before=4":    "after=x",
		"/count?partition=3&after=1":             "before=",
		"/count?partition=3&after=1&before=4&x=": `"x"`,
		"/tap?follow=no":                         "follow=no",
		"/tap?last=-1":                           "last=-1",
		"/tap?partition=-1":                      "partition=-1",
	} {
		var out any
		if err := c.do(t.Context(), http.MethodGet, "/v1/topics/orders"+path, &out); !errors.Is(err, ErrBadRequest) ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
	var out any
	for _, path := range []string{"/tap", "/count"} {
		if err := c.do(t.Context(), http.MethodGet, "/v1/topics/nope"+path, &out); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s of an unknown topic: %v", path, err)
		}
	}
}

func TestMessagesAreNotShownOnAnOpenPort(t *testing.T) {
	addr, _ := serveMessages(t, &fakeMessages{}, "")
	for _, path := range []string{"/tap", "/messages/1", "/count?partition=0&after=0&before=1"} {
		var out any
		err := NewClient(addr).do(t.Context(), http.MethodGet, "/v1/topics/orders"+path, &out)
		if !errors.Is(err, ErrNotAllowed) {
			t.Errorf("%s: got %v", path, err)
		}
	}
	addr, _ = serveMessages(t, &fakeMessages{}, "secret")
	if seqs, err := tapAll(t, NewClientWith(addr, ClientOptions{Token: "secret"}), TapOptions{}); len(seqs) != 3 ||
		!errors.Is(err, io.EOF) {
		t.Errorf("with the token: %v, %v", seqs, err)
	}
}

func TestATapThatFollowsDoesNotHoldUpTheStop(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	s, err := New(Options{Socket: socket, Source: fakeSource{}, Messages: &fakeMessages{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-s.Started()
	stream, err := NewClient(socket).Tap(t.Context(), "orders", TapOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for range 3 {
		if _, err := stream.Next(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	var m Message
	if err := stream.lines.Decode(&m); !errors.Is(err, io.EOF) { // An answer that is cut off has no proper end.
		t.Errorf("the tap ended with %v", err)
	}
	if _, err := stream.Next(); !errors.Is(err, ErrUnreachable) {
		t.Errorf("the caller is told %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestATapEndsWhenItsClientGoesAwayAndTheirNumberIsBounded(t *testing.T) {
	opened := make(chan TapOptions, maxTaps)
	_, socket := serveMessages(t, &fakeMessages{fakeTaps: fakeTaps{opened}}, "")
	var streams []*MessageStream
	for range maxTaps {
		s, err := NewClient(socket).Tap(t.Context(), "orders", TapOptions{Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		<-opened
		streams = append(streams, s)
	}
	if _, err := NewClient(socket).Tap(t.Context(), "orders", TapOptions{}); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	streams[0].Close()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		_, err := tapAll(t, NewClient(socket), TapOptions{})
		if errors.Is(err, io.EOF) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a tap whose client has gone is still open: %v", err)
		}
	}
	for _, s := range streams[1:] {
		s.Close()
	}
}

func TestATapOutlivesTheLimitsOfOtherAnswers(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	s, err := New(Options{Socket: socket, Source: fakeSource{}, Messages: &fakeMessages{}})
	if err != nil {
		t.Fatal(err)
	}
	s.http.ReadTimeout, s.http.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
	runUntilEnd(t, s)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /v1/topics/orders/tap?follow=1 HTTP/1.1\r\nHost: agent\r\n\r\n")
	in := bufio.NewReader(conn)
	for line := ""; !strings.Contains(line, `"seq":3`); {
		if line, err = in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.SetReadDeadline(time.Now().Add(400 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(in)
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("the tap ended, with %v, after %q", err, text)
	}
}
