package admin

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/api"
	"leasehold/internal/brokererr"
	"leasehold/partitioner"
	"leasehold/worker/deadletter"
	"leasehold/worker/tap"
)

// hasKey reports whether messages of a key, as it stands in the subject, are stored.
type hasKey func(key string) (bool, error)

// storedKey looks at the topic, and before that at the dead letters, unless they are nil.
func storedKey(ctx context.Context, js jetstream.JetStream, t partitioner.Topic, letters *deadletter.Store) hasKey {
	return func(key string) (found bool, err error) {
		if letters != nil {
			found, err = letters.HasKey(ctx, partitioner.NewLetterKey(key))
		}
		if !found && err == nil {
			found, err = tap.HasKey(ctx, js, t, key)
		}
		if err != nil {
			err = api.Mark(api.ErrNotYet, brokererr.Text(err))
		}
		return found, err
	}
}

// chooseKey is the key that an operator means by a name. Where the name can be read as two keys it is the one that is
// there; if both are, the operator must say which. A name of what is not there is read as a publisher of ours reads it.
func chooseKey(t partitioner.Topic, name string, has hasKey) (key string, found bool, err error) {
	keys, err := t.KeysNamed(name)
	if err != nil {
		return "", false, api.Mark(api.ErrBadRequest, fmt.Sprintf("key %s", err))
	}
	var there []string
	for _, key := range keys {
		found, err := has(key)
		if err != nil {
			return "", false, err
		}
		if found {
			there = append(there, key)
		}
	}
	switch len(there) {
	case 0:
		return keys[0], false, nil
	case 1:
		return there[0], true, nil
	}
	return "", false, ambiguousKey(name, there)
}

// ambiguousKey asks for the exact name of one of several keys.
func ambiguousKey(name string, keys []string) error {
	exact := make([]string, len(keys))
	for i, key := range keys {
		exact[i] = fmt.Sprintf("%q", partitioner.ExactKeyName(key))
	}
	return api.Mark(api.ErrBadRequest,
		fmt.Sprintf("key %q means two keys that both exist, stored as %q and %q: name one of them as it stands in the "+
			"subject, %s", name, keys[0], keys[1], strings.Join(exact, " or ")))
}

// letterKey is the key of dead letters that an operator means by a name, a hash as it is listed; "" for no name.
func letterKey(t partitioner.Topic, name string, has hasKey) (partitioner.LetterKey, error) {
	if listed := partitioner.LetterKey(name); name == "" || listed.Hashed() {
		return listed, nil
	}
	key, _, err := chooseKey(t, name, has)
	return partitioner.NewLetterKey(key), err
}

// letterKey is that of a group's dead letters.
func (g groupRef) letterKey(ctx context.Context, name string) (partitioner.LetterKey, error) {
	return letterKey(g.topic, name, storedKey(ctx, g.store.JS, g.topic, g.deadLetters()))
}
