package admin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/internal/api"
	"leasehold/partitioner"
	"leasehold/server/servertest"
)

// tapped lists the payloads of a key's stored messages.
func (a *obedient) tapped(name string) (data []string, err error) {
	stream, err := a.Client.Tap(context.Background(), "orders", api.TapOptions{Key: name, FromSeq: 1})
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	for {
		m, err := stream.Next()
		if errors.Is(err, io.EOF) {
			return data, nil
		}
		if err != nil {
			return nil, err
		}
		data = append(data, *m.Data)
	}
}

// lettersOf lists the payloads of a key's dead letters.
func (a *obedient) lettersOf(name string) (data []string, err error) {
	list, err := a.Client.DeadLetters(context.Background(), "billing", api.LetterFilter{Key: name, Data: true})
	if err != nil {
		return nil, err
	}
	for _, l := range list.Letters {
		data = append(data, *l.Data)
	}
	return data, nil
}

// TestKeysAreFoundAsTheyWerePublished: by Leasehold's own publisher, and by NATS clients that encode otherwise or not
// at all.
func TestKeysAreFoundAsTheyWerePublished(t *testing.T) {
	t.Parallel()
	a := newObedient(t, "")
	foreign := []string{"50%", "x>y", "a*b", "caf%c3%a9", "Zürich", "e\u0301", "%zz", "%=x", "%sha256-x", "%25%25"}
	ours := []string{"a b", "joe@example.com", "v1.2.3", "100%", "Łódź", "=x", "tab\there"}
	say := map[string]string{}
	for _, key := range slices.Concat(foreign, ours) {
		say["of "+key] = "reject"
	}
	a.Say(say)
	messages := []*nats.Msg{}
	for _, key := range foreign {
		messages = append(messages, &nats.Msg{Subject: "orders." + key, Data: []byte("of " + key)})
	}
	for _, key := range ours {
		token, err := partitioner.EncodeKey(key)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, &nats.Msg{Subject: "orders." + token, Data: []byte("of " + key)})
	}
	a.publishAs(messages...)
	servertest.Eventually(t, time.Minute, func() error {
		if n := len(a.Letters()); n != len(say) {
			return fmt.Errorf("%d letters, want %d", n, len(say))
		}
		return nil
	})
	for _, key := range ours {
		a.wantFound(key, "of "+key)
	}
	for _, key := range foreign {
		if !strings.HasPrefix(key, "%=") { // Means the key x.
			a.wantFound(key, "of "+key)
		}
	}
	for _, l := range a.Letters() {
		a.wantFound(partitioner.KeyName(l.Key), *l.Data) // As lists show it,
		a.wantFound(partitioner.ExactKeyName(l.Key), *l.Data)
		if token, err := partitioner.EncodeKey(l.Key); err != nil || token == l.Key || !strings.HasPrefix(l.Key, "%=") {
			a.wantFound(l.Key, *l.Data) // and as JSON has it.
		}
	}
	a.End(t)
}

func (a *obedient) wantFound(name, want string) {
	a.t.Helper()
	letters, err := a.lettersOf(name)
	if err != nil || !slices.Equal(letters, []string{want}) {
		a.t.Errorf("dead letters of %q: %q, %v; want %q", name, letters, err, want)
	}
	tapped, err := a.tapped(name)
	if err != nil || !slices.Equal(tapped, []string{want}) {
		a.t.Errorf("tap of %q: %q, %v; want %q", name, tapped, err, want)
	}
	k, err := a.Client.Key(context.Background(), "orders", name)
	if err != nil || !k.Stored {
		a.t.Errorf("key %q: %+v, %v", name, k, err)
	}
}

// TestNameOfTwoKeysIsRefusedUnlessItIsExact: neither may be dropped in the place of the other.
func TestNameOfTwoKeysIsRefusedUnlessItIsExact(t *testing.T) {
	t.Parallel()
	a := newObedient(t, "")
	pairs := map[string][2]string{
		"a%20b": {"a%2520b", "a%20b"}, "Zürich": {"Z%C3%BCrich", "Zürich"}, "50%": {"50%25", "50%"},
	}
	say, n := map[string]string{}, 0
	var messages []*nats.Msg
	for _, pair := range pairs {
		for _, key := range pair {
			say["of "+key] = "reject"
			messages = append(messages, &nats.Msg{Subject: "orders." + key, Data: []byte("of " + key)})
			n++
		}
	}
	a.Say(say)
	a.publishAs(messages...)
	servertest.Eventually(t, time.Minute, func() error {
		if got := len(a.Letters()); got != n {
			return fmt.Errorf("%d letters, want %d", got, n)
		}
		return nil
	})
	for name, pair := range pairs {
		_, lettersErr := a.lettersOf(name)
		_, tapErr := a.tapped(name)
		_, keyErr := a.Client.Key(context.Background(), "orders", name)
		_, releaseErr := a.Client.Ask(context.Background(), "billing", api.Ask{Kind: "release", Keys: []string{name}})
		for what, err := range map[string]error{"dlq": lettersErr, "tap": tapErr, "key": keyErr, "release": releaseErr} {
			if !errors.Is(err, api.ErrBadRequest) || !strings.Contains(err.Error(), "%="+pair[0]) ||
				!strings.Contains(err.Error(), "%="+pair[1]) {
				t.Errorf("%s of %q: %v", what, name, err)
			}
		}
		for _, key := range pair {
			a.wantFound(partitioner.ExactKeyName(key), "of "+key)
		}
	}
	// What a topic still holds counts where letters are chosen: the name copied from a tap means the key that was tapped.
	done, err := a.Client.Drop(context.Background(), "billing",
		api.LetterOrder{Numbers: []uint64{a.numberOf("Z%C3%BCrich")}})
	if err != nil || len(done.Done) != 1 {
		t.Fatalf("drop: %+v, %v", done, err)
	}
	if _, err := a.lettersOf("Zürich"); !errors.Is(err, api.ErrBadRequest) {
		t.Errorf("after one of two is dropped: %v", err)
	}
	a.End(t)
}

func (a *obedient) numberOf(key string) uint64 {
	for _, l := range a.Letters() {
		if l.Key == key {
			return l.Number
		}
	}
	a.t.Fatalf("no letter of %q", key)
	return 0
}
