package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/brokererr"
	"leasehold/internal/failpoint"
	"leasehold/internal/jsondata"
	"leasehold/internal/ownership"
	"leasehold/internal/plural"
	"leasehold/partitioner"
	"leasehold/worker/deadletter"
	"leasehold/worker/header"
)

// DeadLetters lists a page of a group's dead letters.
func (n *Node) DeadLetters(ctx context.Context, group string, f api.LetterFilter) (*api.LetterList, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	g, err := n.about(ctx, group)
	if err == nil && f.Partition != nil {
		err = g.checkPartition(*f.Partition)
	}
	if err != nil {
		return nil, err
	}
	box, out := n.letters(group), &api.LetterList{V: api.Version, Group: group, Letters: []api.Letter{}}
	if f.Stored > 0 {
		l, err := box.At(ctx, f.Stored)
		if err != nil {
			return nil, letterError(err, f.Stored)
		}
		out.Letters = append(out.Letters, apiLetter(l, true))
		return out, nil
	}
	where, page := letterPage(f, out)
	if where.Key, err = n.letterKey(ctx, g, f.Key); err != nil {
		return nil, err
	}
	if f.Seq > 0 {
		return out, oneOf(ctx, box, where, f, out)
	}
	next, err := box.List(ctx, where, page)
	out.Next = next
	return out, err
}

// letterPage is what to ask for, but for its key, and what puts the answers into the list until it is full.
func letterPage(f api.LetterFilter, out *api.LetterList) (deadletter.Query, func(*deadletter.Record) (more bool)) {
	where := deadletter.Query{Partition: -1, Kind: partitioner.DeadLetterKind(f.Kind), After: f.After}
	if f.Partition != nil {
		where.Partition = *f.Partition
	}
	limit := f.Limit
	if limit <= 0 || limit > api.MaxLetters {
		limit = api.MaxLetters
	}
	size := 0
	return where, func(l *deadletter.Record) (more bool) {
		if (f.Reason == "" || string(l.Reason) == f.Reason) && !l.LastFail.Before(f.Since) {
			letter := apiLetter(l, f.Data)
			out.Letters = append(out.Letters, letter)
			size += sizeOf(letter)
		}
		return len(out.Letters) < limit && size < maxPage
	}
}

// maxPage is where a page of dead letters ends, in bytes of JSON: what one caller makes a node hold.
const maxPage = 8 << 20

// sizeOf is about what a letter takes in JSON.
func sizeOf(l api.Letter) int {
	size := 1024 + jsondata.New([]byte(l.Error)).Size() + 2*(len(l.Key)+len(l.Subject)) + l.Size()
	for name, values := range l.Headers {
		for _, v := range values {
			size += len(name) + jsondata.New([]byte(v)).Size()
		}
	}
	return size
}

// oneOf lists the letter of one message, if there is one.
func oneOf(ctx context.Context, box *deadletter.Store, where deadletter.Query, f api.LetterFilter, out *api.LetterList) error {
	l, err := box.Of(ctx, where.Partition, where.Key, f.Seq)
	switch {
	case errors.Is(err, deadletter.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	out.Letters = append(out.Letters, apiLetter(l, f.Data))
	return nil
}

func letterError(err error, number uint64) error {
	if errors.Is(err, deadletter.ErrNotFound) {
		return api.Mark(api.ErrNotFound, fmt.Sprintf("there is no dead letter %d", number))
	}
	return err
}

func apiLetter(l *deadletter.Record, data bool) api.Letter {
	out := api.Letter{
		Number: l.Stored, ID: fmt.Sprintf("%s/%d/%d", l.Topic, l.Partition, l.Seq), Kind: string(l.Kind), Reason: string(l.Reason),
		Error: l.Error, Topic: l.Topic, Partition: l.Partition, Seq: l.Seq, Key: listedKey(l), Subject: l.Subject, Attempts: l.Attempts,
		FirstFailure: header.TimeText(l.FirstFail), LastFailure: header.TimeText(l.LastFail), Node: l.Node, Epoch: l.Epoch,
		Published: header.TimeText(l.Published), Requeues: l.Requeues, Bytes: len(l.Data), LeftOut: l.LeftOut,
	}
	if data {
		out.Headers = l.Headers
		out.Payload = jsondata.New(l.Data)
	}
	return out
}

// listedKey is a letter's key by which it is found again. JSON holds no other text than UTF-8.
func listedKey(l *deadletter.Record) string {
	if utf8.ValidString(l.Key) {
		return l.Key
	}
	return string(l.LetterKey)
}

// releaseKeys checks that something of each key is parked, and lists them as a request does.
func (n *Node) releaseKeys(ctx context.Context, g about, keys []string) (string, error) {
	if len(keys) == 0 {
		return ownership.AllKeys, nil
	}
	letterKeys := make([]string, len(keys))
	for i, key := range keys {
		letterKey, err := n.letterKey(ctx, g, key)
		if err != nil {
			return "", err
		}
		letterKeys[i] = string(letterKey)
		found := false
		_, err = n.letters(g.name).List(ctx, deadletter.Query{Partition: -1, Kind: partitioner.Parked, Key: letterKey}, func(*deadletter.Record) bool {
			found = true
			return false
		})
		switch {
		case err != nil:
			return "", err
		case !found:
			return "", api.Mark(api.ErrNotFound, fmt.Sprintf("nothing of key %q is parked in group %q", key, g.name))
		}
	}
	return strings.Join(letterKeys, " "), nil
}

// Requeue publishes dead letters to their topic once more and then removes them. A crash between the two repeats a message; it
// loses none.
func (n *Node) Requeue(ctx context.Context, group string, o api.LetterOrder) (*api.LettersDone, error) {
	requeued := []api.Requeued{}
	done, err := n.eachLetter(ctx, group, o.Numbers, "requeued", func(ctx context.Context, l *deadletter.Record) error {
		switch {
		case l.Kind == partitioner.Parked:
			return errors.New("it is parked, with later ones of its key behind it: release the key instead")
		case o.MaxRequeues > 0 && l.Requeues >= o.MaxRequeues:
			return fmt.Errorf("it has been requeued %s", plural.Of(l.Requeues, "time"))
		}
		again, err := n.publishAgain(ctx, l, o.AllGroups)
		if err == nil {
			requeued = append(requeued, again)
		}
		return err
	})
	if done != nil {
		done.Requeued = requeued
	}
	return done, err
}

// publishAgain publishes a letter's message under an id of its own, so that a repeated requeue is stored once: the id that
// it came with is still known to the broker, which would take the message for a duplicate and drop it.
func (n *Node) publishAgain(ctx context.Context, l *deadletter.Record, allGroups bool) (again api.Requeued, err error) {
	if len(l.Subject) > partitioner.MaxSubject {
		return again, fmt.Errorf("its subject has %d bytes, and a node publishes to at most %d: take it with `leasehold dlq export %s`, then drop it",
			len(l.Subject), partitioner.MaxSubject, l.Group)
	}
	m := nats.NewMsg(l.Subject)
	m.Data = l.Data
	m.Header = l.RequeueHeaders(allGroups)
	id := fmt.Sprintf("dlq/%s/%d", l.Group, l.Stored)
	if allGroups { // It may have been published for one of them, by an attempt that was cut short.
		id += "/all"
	}
	if _, ok := n.topics[l.Topic]; !ok {
		return again, errNotServed(l.Topic)
	}
	ack, err := n.conns.publish.PublishMsg(ctx, m, jetstream.WithMsgID(id))
	if err == nil && ack.Stream != l.Topic {
		err = fmt.Errorf("stream %s took it", ack.Stream)
	}
	if err != nil {
		return again, fmt.Errorf("publish to %s: %w", l.Subject, err)
	}
	failpoint.Hit(failpoint.Requeued)
	n.log.Info("dead letter requeued", "by", api.By(ctx), "group", l.Group, "all_groups", allGroups, "number", l.Stored,
		"id", fmt.Sprintf("%s/%d/%d", l.Topic, l.Partition, l.Seq), "as", ack.Sequence)
	return api.Requeued{Number: l.Stored, Key: listedKey(l), Partition: l.Partition, Seq: ack.Sequence}, nil
}

// Drop deletes dead letters. Partitions of which a parked one goes begin anew, for their owners know which keys are parked.
func (n *Node) Drop(ctx context.Context, group string, o api.LetterOrder) (*api.LettersDone, error) {
	var parked []int
	done, err := n.eachLetter(ctx, group, o.Numbers, "dropped", func(ctx context.Context, l *deadletter.Record) error {
		if l.Kind == partitioner.Parked {
			parked = append(parked, l.Partition)
		}
		n.log.Info("dead letter dropped", "by", api.By(ctx), "group", group, "number", l.Stored, "id", fmt.Sprintf("%s/%d/%d", l.Topic, l.Partition, l.Seq), "key", l.Key)
		return nil
	})
	if err == nil && len(parked) > 0 {
		_, err = n.Ask(ctx, group, api.Ask{Kind: lease.Restart, Partitions: parked})
	}
	return done, err
}

// eachLetter does something with dead letters whose message is finished, and then removes them. Before that, their owner
// might still be about to write the very same one again.
func (n *Node) eachLetter(ctx context.Context, group string, numbers []uint64, what string, do func(context.Context, *deadletter.Record) error) (*api.LettersDone, error) {
	g, err := n.about(ctx, group)
	if err != nil {
		return nil, err
	}
	passed := &passing{about: g, tries: passTries}
	box, out := n.letters(group), &api.LettersDone{V: api.Version, Group: group, Done: []uint64{}, Failed: []api.LetterFailure{}}
	for _, number := range slices.Compact(slices.Sorted(slices.Values(numbers))) {
		err := n.oneLetter(ctx, box, number, passed, do)
		if err == nil {
			out.Done = append(out.Done, number)
			continue
		}
		out.Failed = append(out.Failed, api.LetterFailure{Number: number, Error: brokererr.Text(err)})
	}
	n.log.Info("dead letters "+what, "by", api.By(ctx), "group", group, "done", len(out.Done), "failed", len(out.Failed))
	return out, nil
}

func (n *Node) oneLetter(ctx context.Context, box *deadletter.Store, number uint64, passed *passing, do func(context.Context, *deadletter.Record) error) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	l, err := box.At(ctx, number)
	if err != nil {
		return err
	}
	if err := passed.await(ctx, l); err != nil {
		return err
	}
	if err := do(ctx, l); err != nil {
		return err
	}
	return box.Remove(ctx, number)
}

// How long a command on dead letters waits for the checkpoints of their partitions.
const (
	passTries = 30
	passPause = 100 * time.Millisecond
)

// passing looks whether partitions have passed the messages of dead letters.
type passing struct {
	about
	leased []lease.Lease
	tries  int // Left for the whole command.
}

func (p *passing) await(ctx context.Context, l *deadletter.Record) error {
	for {
		if l.Partition < len(p.leased) && l.Seq <= p.leased[l.Partition].Checkpoint {
			return nil
		}
		if p.leased != nil {
			if p.tries--; p.tries < 0 {
				return errors.New("its partition has not passed it yet: try again in a moment")
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(passPause):
			}
		}
		var err error
		if p.leased, err = p.leases(ctx); err != nil {
			return err
		}
	}
}
