// Package partitioner says where a message belongs: key → partition → subject → stream. Its rooms publish there
// (publisher) and manage the streams (stream).
//
// A publisher sends to a topic's subject ("orders.c-17"). The topic's stream stores the message under
// "<topic>.<layout>.<partition>.<wildcard tokens>" ("orders.1.5.c-17"): the broker's own subject transform
// computes the partition, so no client in any language can misplace a message. Of is the same function in Go.
//
// This is the only place that spells subjects and encodes keys. Three rules hold everywhere:
//
//   - A key is its subject token, or tokens. EncodeKey makes the one canonical token of a raw key; a token that
//     came from elsewhere is taken as it is. Place.Key is always the token form; DecodeKey is for display.
//   - The mapping never changes. Of is frozen by golden vectors, and stream.Ensure refuses a topic whose
//     partitions, subject or key differ from those stored: messages of one key would be in two partitions.
//   - publisher.Publisher keeps at most one message of a key in flight and retries under the same message id, so that
//     neither a retry nor a lost answer can reorder or double the messages of a key.
package partitioner
