package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/internal/api"
	"leasehold/partitioner"
	"leasehold/server/servertest"
)

// publishAs publishes messages as a plain NATS client, under ids.
func (a *obedient) publishAs(messages ...*nats.Msg) {
	a.t.Helper()
	nc, err := nats.Connect("nats://" + a.Config.Server.Listen)
	if err != nil {
		a.t.Fatal(err)
	}
	defer nc.Close()
	for i, m := range messages {
		if m.Header == nil {
			m.Header = nats.Header{}
		}
		m.Header.Set(nats.MsgIdHdr, fmt.Sprintf("id-%d", i))
		if _, err := nc.RequestMsgWithContext(a.t.Context(), m); err != nil {
			a.t.Fatalf("message %d: %v", i, err)
		}
	}
}

// largest is a message that with its headers has exactly max_payload bytes.
func (a *obedient) largest(key string, headers nats.Header) *nats.Msg {
	m := &nats.Msg{Subject: "orders." + key, Header: headers}
	n := len("NATS/1.0\r\nNats-Msg-Id: id-0\r\n\r\n")
	for name, values := range headers {
		for _, v := range values {
			n += len(name) + len(": \r\n") + len(v)
		}
	}
	m.Data = bytes.Repeat([]byte("x"), int(a.Config.Server.MaxPayload)-n)
	return m
}

// TestLargestMessagesAreRequeued: what a publisher may send at most comes back to its topic, with its headers, more
// than once.
func TestLargestMessagesAreRequeued(t *testing.T) {
	t.Parallel()
	a := newObedient(t, "")
	many := nats.Header{}
	for i := range 1000 {
		many[fmt.Sprintf("header-%04d", i)] = []string{"v"}
	}
	messages := []*nats.Msg{
		a.largest("a", nil), a.largest("b", nats.Header{"X": {strings.Repeat("h", 31<<10)}}), a.largest("c", many),
	}
	say := map[string]string{}
	for _, m := range messages {
		say[string(m.Data)] = "reject"
	}
	a.Say(say)
	a.publishAs(messages...)
	for round := range 3 {
		letters := a.waitRequeued(len(messages), round)
		order := api.LetterOrder{}
		for i, l := range letters {
			m := messages[strings.Index("abc", l.Key)]
			if l.LeftOut != "" || *l.Data != string(m.Data) {
				t.Errorf("round %d, letter %d: %d bytes, left out %q", round, i, len(*l.Data), l.LeftOut)
			}
			for name, values := range m.Header {
				if name != nats.MsgIdHdr && (len(l.Headers[name]) != 1 || l.Headers[name][0] != values[0]) {
					t.Errorf("round %d, letter %d: header %s has changed", round, i, name)
				}
			}
			order.Numbers = append(order.Numbers, l.Number)
		}
		done, err := a.Client.Requeue(context.Background(), "billing", order)
		if err != nil || len(done.Failed) > 0 {
			t.Fatalf("requeue: %+v, %v", done, err)
		}
	}
	a.waitRequeued(len(messages), 3)
	a.End(t)
}

// waitRequeued waits for n letters of messages that were requeued so often.
func (a *obedient) waitRequeued(n, requeues int) (found []api.Letter) {
	a.t.Helper()
	servertest.Eventually(a.t, time.Minute, func() error {
		found = nil
		for _, l := range a.Letters() {
			if l.Requeues == requeues {
				found = append(found, l)
			}
		}
		if len(found) != n {
			return fmt.Errorf("%d letters were requeued %d times, want %d", len(found), requeues, n)
		}
		return nil
	})
	return found
}

// TestRequeueIsForOneGroup: the other group of the topic has handled the message long ago.
func TestRequeueIsForOneGroup(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "audit")
	a := newObedient(t, fmt.Sprintf("\n[[group]]\nname = \"audit\"\ntopic = \"orders\"\nhandler = { kind = \"file\", "+
		"path = %q }\n", out))
	audited := func() string {
		var text []string
		files, _ := filepath.Glob(filepath.Join(out, "*"))
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, string(b))
		}
		return strings.Join(text, "")
	}
	waitAudited := func(data string, n int) {
		t.Helper()
		servertest.Eventually(t, time.Minute, func() error {
			if got := strings.Count(audited(), data); got != n {
				return fmt.Errorf("group audit has handled %q %d times, want %d, in\n%s", data, got, n, audited())
			}
			return nil
		})
	}
	a.Say(map[string]string{"bad": "reject", "worse": "reject"})
	a.Publish("k:bad", "k:worse", "k:fine")
	letters := a.WaitLetters("dead rejected bad", "dead rejected worse")
	waitAudited("fine", 1)
	a.Say(map[string]string{})
	done, err := a.Client.Requeue(context.Background(), "billing", api.LetterOrder{Numbers: []uint64{letters[0].Number}})
	if err != nil || len(done.Requeued) != 1 || done.Requeued[0].Seq != 4 ||
		done.Requeued[0].Partition != letters[0].Partition {
		t.Fatalf("requeue: %+v, %v", done, err)
	}
	if done, err = a.Client.Requeue(context.Background(), "billing", api.LetterOrder{Numbers: []uint64{letters[1].Number},
		AllGroups: true}); err != nil || len(done.Done) != 1 {
		t.Fatalf("requeue for all groups: %+v, %v", done, err)
	}
	waitAudited("worse", 2) // Behind the other one, of the same key.
	waitAudited("bad", 1)
	a.WaitDone("bad", "fine", "worse")
	a.End(t)
}

// TestHashedKeysAreFoundByTheirKeyAndReleased: a key that looks like a hash stands as one in its letters' subjects.
func TestHashedKeysAreFoundByTheirKeyAndReleased(t *testing.T) {
	t.Parallel()
	a := newObedient(t, `on_exhausted = "park_key"`)
	key := "%sha256-of-mine"
	a.Say(map[string]string{"k1": "retry"})
	a.publishAs(&nats.Msg{Subject: "orders." + key, Data: []byte("k1")},
		&nats.Msg{Subject: "orders." + key, Data: []byte("k2")})
	a.WaitLetters("parked max_attempts k1", "parked parked k2")
	for _, named := range []string{key, string(partitioner.NewLetterKey(key))} {
		list, err := a.Client.DeadLetters(context.Background(), "billing", api.LetterFilter{Key: named})
		if err != nil || len(list.Letters) != 2 || list.Letters[0].Key != key || list.Letters[0].Subject != "orders."+key {
			t.Errorf("letters of key %s: %+v, %v", named, list, err)
		}
	}
	a.Say(map[string]string{})
	a.Command(api.Ask{Kind: "release", Keys: []string{key}})
	a.WaitLetters()
	a.WaitDone("k1", "k2")
	a.End(t)
}

// What a publisher prepares, and one command sets off, must not fill a node's memory.
func TestAPageOfDeadLettersIsBounded(t *testing.T) {
	t.Parallel()
	a := newObedient(t, "")
	control, text := strings.Repeat("\x01", 500_000), strings.Repeat("x", 900_000)
	a.Say(map[string]string{control: "reject", text: "reject"})
	var messages []*nats.Msg
	for i := range 12 {
		messages = append(messages, &nats.Msg{Subject: fmt.Sprint("orders.c", i), Data: []byte(control)},
			&nats.Msg{Subject: fmt.Sprint("orders.t", i), Data: []byte(text)})
	}
	a.publishAs(messages...)
	servertest.Eventually(t, time.Minute, func() error {
		if n := a.Group().DeadLetters; n != int64(len(messages)) {
			return fmt.Errorf("%d dead letters", n)
		}
		return nil
	})
	seen, pages := map[string]bool{}, 0
	for after := uint64(0); pages == 0 || after > 0; pages++ {
		page, err := a.Client.DeadLetters(t.Context(), "billing",
			api.LetterFilter{Data: true, After: after, Limit: api.MaxLetters})
		if err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(page)
		if largest := 6 * len(control); err != nil || len(body) > 8<<20+largest+64<<10 {
			t.Errorf("page %d has %d bytes, %v", pages, len(body), err)
		}
		for _, l := range page.Letters {
			want := map[bool]string{true: control, false: text}[l.Key[0] == 'c']
			if seen[l.ID] = true; string(l.Payload.Bytes()) != want {
				t.Errorf("letter %s of key %s has another payload", l.ID, l.Key)
			}
		}
		after = page.Next
	}
	if len(seen) != len(messages) || pages < 3 {
		t.Errorf("%d letters on %d pages, want %d on several", len(seen), pages, len(messages))
	}
	a.End(t)
}

// TestLocalReadingChoosesAsTheLeaderDoes: the letter of one message, and partitions that there are not.
func TestLocalReadingChoosesAsTheLeaderDoes(t *testing.T) {
	t.Parallel()
	a := newObedient(t, "")
	a.Say(map[string]string{"k1": "reject", "k2": "reject"})
	a.Publish("k:k1", "k:k2")
	a.WaitLetters("dead rejected k1", "dead rejected k2")
	nowhere := 99
	for _, l := range a.Letters() {
		for _, local := range []bool{false, true} {
			one := api.LetterFilter{Partition: &l.Partition, Key: l.Key, Seq: l.Seq, Local: local}
			if list, err := a.Client.DeadLetters(t.Context(), "billing", one); err != nil || len(list.Letters) != 1 ||
				list.Letters[0].Number != l.Number || list.Next != 0 {
				t.Errorf("message %d, local is %t: %+v, %v", l.Seq, local, list, err)
			}
		}
	}
	for _, local := range []bool{false, true} {
		list, err := a.Client.DeadLetters(t.Context(), "billing", api.LetterFilter{Partition: &nowhere, Local: local})
		if err == nil || !strings.Contains(err.Error(), "there is no partition 99") {
			t.Errorf("a partition that there is not, local is %t: %+v, %v", local, list, err)
		}
	}
	a.End(t)
}
