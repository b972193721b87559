package node

import (
	"context"
	"fmt"
	"strings"

	"leasehold/internal/api"
	"leasehold/internal/brokererr"
	"leasehold/partitioner"
	"leasehold/worker"
)

// Key finds the key of a topic that an operator means by a name.
func (n *Node) Key(ctx context.Context, topic, name string) (*api.KeyInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	t, err := n.openTopic(topic)
	if err != nil {
		return nil, err
	}
	key, stored, err := n.keyNamed(ctx, t.Topic, name, nil)
	if err != nil {
		return nil, err
	}
	return &api.KeyInfo{V: api.Version, Topic: topic, Key: key, Name: partitioner.KeyName(key), Partition: t.PartitionOf(key), Stored: stored}, nil
}

// keyNamed is the key that an operator means by a name, and whether the topic holds messages or the dead letters, unless they are
// nil, letters of it.
func (n *Node) keyNamed(ctx context.Context, t partitioner.Topic, name string, letters *worker.DeadLetters) (key string, found bool, err error) {
	return chooseKey(t, name, func(key string) (bool, error) {
		found, err := n.hasKey(ctx, t, key, letters)
		if err != nil {
			err = api.Mark(api.ErrNotYet, brokererr.Text(err))
		}
		return found, err
	})
}

// chooseKey is the key that an operator means by a name. Where the name can be read as two keys it is the one that is there; if
// both are, the operator must say which. A name of what is not there is read as a publisher of ours reads it.
func chooseKey(t partitioner.Topic, name string, has func(key string) (bool, error)) (key string, found bool, err error) {
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

func (n *Node) hasKey(ctx context.Context, t partitioner.Topic, key string, letters *worker.DeadLetters) (bool, error) {
	if letters != nil {
		if found, err := letters.HasKey(ctx, partitioner.NewLetterKey(key)); err != nil || found {
			return found, err
		}
	}
	return worker.HasKey(ctx, n.conns.operator, t, key)
}

// ambiguousKey asks for the exact name of one of several keys.
func ambiguousKey(name string, keys []string) error {
	exact := make([]string, len(keys))
	for i, key := range keys {
		exact[i] = fmt.Sprintf("%q", partitioner.ExactKeyName(key))
	}
	return api.Mark(api.ErrBadRequest, fmt.Sprintf("key %q means two keys that both exist, stored as %q and %q: name one of them as it stands in the subject, %s",
		name, keys[0], keys[1], strings.Join(exact, " or ")))
}

// letterKey is the key of a group's dead letters that an operator means by a name, a hash as it is listed; "" for no name.
func (n *Node) letterKey(ctx context.Context, g about, name string) (partitioner.LetterKey, error) {
	if listed := partitioner.LetterKey(name); name == "" || listed.Hashed() {
		return listed, nil
	}
	key, _, err := n.keyNamed(ctx, g.topic, name, n.letters(g.name))
	return partitioner.NewLetterKey(key), err
}
