package admin

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/api"
	"leasehold/internal/jsondata"
	"leasehold/internal/status"
	"leasehold/partitioner"
	"leasehold/worker/deadletter"
	"leasehold/worker/header"
)

// deadLetters lists and handles the dead letters of groups.
type deadLetters struct {
	*status.View
	messages messages
	log      hclog.Logger
}

// deadLetters are those of the group. The lanes of this node's groups have their own connection for theirs.
func (g groupRef) deadLetters() *deadletter.Store {
	return &deadletter.Store{Group: g.name, JS: g.store.JS}
}

// list lists a page of a group's dead letters.
func (d deadLetters) list(ctx context.Context, group string, f api.LetterFilter) (*api.LetterList, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	g, err := findGroup(ctx, d.View, group)
	if err == nil && f.Partition != nil {
		err = g.checkPartition(*f.Partition)
	}
	if err != nil {
		return nil, err
	}
	box, out := g.deadLetters(), &api.LetterList{V: api.Version, Group: group, Letters: []api.Letter{}}
	if f.Stored > 0 {
		l, err := box.At(ctx, f.Stored)
		if err != nil {
			return nil, letterError(err, f.Stored)
		}
		out.Letters = append(out.Letters, apiLetter(l, true))
		return out, nil
	}
	where, page := letterPage(f, out)
	if where.Key, err = g.letterKey(ctx, f.Key); err != nil {
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
func oneOf(ctx context.Context, box *deadletter.Store, where deadletter.Query, f api.LetterFilter,
	out *api.LetterList) error {
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
		Number: l.Stored, ID: fmt.Sprintf("%s/%d/%d", l.Topic, l.Partition, l.Seq), Kind: string(l.Kind),
		Reason: string(l.Reason),
		Error:  l.Error, Topic: l.Topic, Partition: l.Partition, Seq: l.Seq, Key: listedKey(l), Subject: l.Subject,
		Attempts:     l.Attempts,
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
