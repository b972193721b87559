// Package peers lets the nodes of a cluster ask each other: one asks all, and takes the answers that come in time.
package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// Subjects on which nodes ask each other. The broker's permissions name them too (server/roles.go).
const (
	StatusSubject  = "leasehold.internal.status"
	ReplicaSubject = "leasehold.internal.replica"
	DeathSubject   = "leasehold.internal.death"
)

// Question is what one node asks all of them, itself included.
type Question struct {
	Subject string
	Data    []byte
	Answers int           // No more are waited for.
	Wait    time.Duration // Nor for longer than this.
}

// Ask returns the answers that came in time. Those that are not a JSON value of T are left out.
func Ask[T any](ctx context.Context, nc *nats.Conn, q Question) (answers []T) {
	ctx, cancel := context.WithTimeout(ctx, q.Wait)
	defer cancel()
	inbox := nc.NewRespInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return answers
	}
	defer sub.Unsubscribe() //nolint:errcheck // nothing to do about it
	if nc.PublishRequest(q.Subject, inbox, q.Data) != nil {
		return answers
	}
	for len(answers) < q.Answers {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			break
		}
		var answer T
		if json.Unmarshal(m.Data, &answer) == nil {
			answers = append(answers, answer)
		}
	}
	return answers
}

// Answer is a part that answers what nodes ask on a subject, with the JSON of what reply returns for the question's
// data, until ctx ends. reply's context is that of the part.
func Answer(nc *nats.Conn, subject string,
	reply func(ctx context.Context, data []byte) any) func(context.Context) error {
	return func(ctx context.Context) error {
		sub, err := nc.Subscribe(subject, func(m *nats.Msg) {
			if data, err := json.Marshal(reply(ctx, m.Data)); err == nil {
				_ = m.Respond(data) // the node that asked shows what it got
			}
		})
		if err != nil {
			return fmt.Errorf("listen on %s: %w", subject, err)
		}
		<-ctx.Done()
		_ = sub.Unsubscribe() // the connection goes next
		return nil
	}
}
