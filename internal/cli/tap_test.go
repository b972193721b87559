package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"leasehold/internal/api"
	"leasehold/internal/jsondata"
)

// fakeMessages is a topic "orders" with two partitions, and the messages given, of which the first has sequence 1.
type fakeMessages struct {
	fakeRequests
	stored []api.Message
	tapped api.TapOptions // Of the last tap.
}

// ordersOf is an agent with messages of the keys given.
func ordersOf(keys ...string) *fakeMessages {
	f := &fakeMessages{}
	f.status = healthy()
	f.topic = api.TopicInfo{Name: "orders", Partitions: 2, Subject: "orders.*", Key: []int{1}, MaxPayload: 1 << 20}
	for i, key := range keys {
		p := placeOf(f.topic, key)
		f.stored = append(f.stored, api.Message{
			ID: fmt.Sprintf("orders/%d/%d", p, i+1), Topic: "orders", Partition: p, Seq: uint64(i + 1), Key: key,
			Subject: "orders." + key,
			Time:    time.Now().UTC().Format(time.RFC3339Nano), Headers: map[string][]string{},
			Payload: jsondata.New([]byte("for " + key)),
		})
	}
	return f
}

func (f *fakeMessages) Publish(context.Context, string, []api.NewMessage) ([]api.Receipt, error) {
	return nil, api.Mark(api.ErrNotYet, "not here")
}

func (f *fakeMessages) Tap(_ context.Context, _ string, o api.TapOptions) (api.MessageReader, error) {
	f.tapped = o
	return &fakeReader{left: f.stored}, nil
}

func (f *fakeMessages) Message(_ context.Context, _ string, seq uint64) (*api.Message, error) {
	if seq > uint64(len(f.stored)) {
		return nil, api.Mark(api.ErrNotFound, "message is not stored yet")
	}
	return &f.stored[seq-1], nil
}

// Key reads a name as the node does: what is stored is meant, else what pub would make of it.
func (f *fakeMessages) Key(_ context.Context, topic, name string) (*api.KeyInfo, error) {
	keys, err := topicOf(f.topic).KeysNamed(name)
	if err != nil {
		return nil, api.Mark(api.ErrBadRequest, err.Error())
	}
	k := &api.KeyInfo{Topic: topic, Key: keys[0]}
	for _, m := range f.stored {
		if slices.Contains(keys, m.Key) {
			k.Key, k.Stored = m.Key, true
		}
	}
	k.Partition = placeOf(f.topic, k.Key)
	return k, nil
}

// DeadLetters also knows the letter of one message by its sequence.
func (f *fakeMessages) DeadLetters(ctx context.Context, group string, q api.LetterFilter) (*api.LetterList, error) {
	out, err := f.fakeRequests.DeadLetters(ctx, group, q)
	for _, l := range f.letters {
		if err == nil && q.Seq == l.Seq && q.Partition != nil && *q.Partition == l.Partition && means(q.Key, l.Key) {
			out.Letters = append(out.Letters, l)
		}
	}
	return out, err
}

func (f *fakeMessages) Count(_ context.Context, _ string, o api.CountOptions) (n uint64, _ error) {
	for _, m := range f.stored {
		if m.Partition == o.Partition && o.After < m.Seq && m.Seq < o.Before {
			n++
		}
	}
	return n, nil
}

type fakeReader struct{ left []api.Message }

func (r *fakeReader) Next(context.Context) (*api.Message, error) {
	if len(r.left) == 0 {
		return nil, io.EOF
	}
	m := r.left[0]
	r.left = r.left[1:]
	return &m, nil
}

func (r *fakeReader) Close() {}

func TestTapPrintsOneObjectALineWithJSON(t *testing.T) {
	f := ordersOf("a", "b", "c")
	f.stored[1].Payload = jsondata.New([]byte{0xff})
	addr := agent(t, f)
	r := run(t, "tap", "orders", "--addr", addr, "-o", "json")
	r.want(t, exitOK)
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	var m api.Message
	if len(lines) != 3 || json.Unmarshal([]byte(lines[1]), &m) != nil || m.Seq != 2 || string(m.Bytes()) != "\xff" {
		t.Errorf("got %s", r.out)
	}
	if f.tapped.Last != api.DefaultLast || f.tapped.Follow {
		t.Errorf("asked for %+v", f.tapped)
	}
}

func TestTapShowsPeopleOneLineThatCannotSteerTheirTerminal(t *testing.T) {
	f := ordersOf("a%20b", "c")
	f.stored[0].Payload = jsondata.New([]byte("\x1b[2J two\nlines\x07 über"))
	f.stored[1].Payload = jsondata.New([]byte{0xff, 0xfe})
	r := run(t, "tap", "orders", "--addr", agent(t, f), "-o", "table")
	r.want(t, exitOK, "  a b  \\u001b[2J two lines\\u0007 über\n", "(2 B, not text)")
	if strings.Count(r.out, "\n") != 2 || strings.ContainsAny(r.out, "\x1b\x07") {
		t.Errorf("got %q", r.out)
	}
}

func TestTapRefusesWhatContradictsItself(t *testing.T) {
	addr := agent(t, ordersOf("a"))
	for _, c := range []struct{ args, want string }{
		{"--last 3 --since 10m", "--last and --since exclude each other"},
		{"--partition 1 --key a", "--partition and --key exclude each other"},
		{"--last -1", "at least 0"},
		{"--since 0s", "--since"},
		{"--from-seq 0", "begin at 1"},
		{"--partition 2", "from 0 to 1"},
		{"--partition -1", "at least 0"},
	} {
		run(t, append([]string{"tap", "orders", "--addr", addr}, strings.Fields(c.args)...)...).want(t, exitUsage, c.want)
	}
	run(t, "tap", "orders", "--addr", addr, "--key", "").want(t, exitUsage, "--key")
	run(t, "tap", "nope", "--addr", addr).want(t, exitNotFound, "nope")
}

func TestCompletionOffersNamesAndNeverFails(t *testing.T) {
	addr := agent(t, ordersOf())
	members, dev := agent(t, &fakeMembers{fakeSource: fakeSource{status: healthy()}}), devDirOf(t)
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	run(t, "context", "add", "plant-7", "--addr", addr).want(t, exitOK)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"__complete", "tap", "--addr", addr, ""}, "orders\n:4"},
		{[]string{"__complete", "pub", "--addr", addr, "o"}, "orders\n:4"},
		{[]string{"__complete", "tap", "orders", "--addr", addr, ""}, ":4"},
		{[]string{"__complete", "pause", "--addr", addr, ""}, "audit\n:4"},
		{[]string{"__complete", "dlq", "show", "--addr", addr, ""}, "audit\n:4"},
		{[]string{"__complete", "tap", "--addr", "127.0.0.1:1", ""}, ":4"},
		{[]string{"__complete", "node", "remove", "--addr", members, ""}, "n1\nn2\n:4"},
		{[]string{"__complete", "group", "remove", "--addr", members, ""}, "audit\n:4"},
		{[]string{"__complete", "config", "validate", ""}, "toml\n:8"}, // Files of this ending only.
		{[]string{"__complete", "seek", "billing", "--to", ""}, "earliest\nlatest\nseq:"},
		{[]string{"__complete", "dev", "kill", "--dir", dev, ""}, "n1\nn2\nn3\n:4"},
		{[]string{"__complete", "context", "use", ""}, "plant-7\n:4"},
		{[]string{"__complete", "status", "--context", ""}, "plant-7\n:4"},
		{[]string{"__complete", "group", "remove", "--addr", "127.0.0.1:1", ""}, ":4"},
	} {
		r := run(t, c.args...)
		r.want(t, exitOK)
		if !strings.HasPrefix(r.out, c.want) {
			t.Errorf("%v: got %q", c.args, r.out)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		run(t, "completion", shell).want(t, exitOK, "leasehold")
	}
}

func placeOf(info api.TopicInfo, key string) int {
	return topicOf(info).PartitionOf(key)
}
