package server

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nkeys"
)

// HTTPUser is the ingress user as which a node publishes what it is given over HTTP. It may publish to every topic; no
// configured user can have this name.
const HTTPUser = "@http"

// identity is a user of the broker. Its key exists only in this process's memory, and the broker takes no connection from
// outside it.
type identity struct {
	key       nkeys.KeyPair
	inbox     string   // prefix of the subjects that it may subscribe to, with a final dot; "" if it has none
	publish   []string // subjects that it may publish to
	subscribe []string // subjects that it may subscribe to, besides its inbox
	answers   bool     // it may answer what it receives
}

// answerLimit is how long the broker remembers whom an answer is for: as long as any timeout of a group makes sense.
const answerLimit = "24h"

// text is the identity in the broker's config.
func (i identity) text() (string, error) {
	public, err := i.key.PublicKey()
	if err != nil {
		return "", err
	}
	subscribe, responses := i.subscribe, ""
	if i.inbox != "" {
		subscribe = append(slices.Clone(subscribe), i.inbox+">")
	}
	if i.answers { // once, and only to the reply subject of a request that it was sent
		responses = fmt.Sprintf(`, allow_responses: { max: 1, expires: %q }`, answerLimit)
	}
	return fmt.Sprintf(`{ nkey: %s, allowed_connection_types: ["IN_PROCESS"], permissions: { publish: %s, subscribe: %s%s } }`,
		public, allowRule(i.publish), allowRule(subscribe), responses), nil
}

// all is an identity without limits.
func (i identity) all() (string, error) {
	public, err := i.key.PublicKey()
	return fmt.Sprintf(`{ nkey: %s, allowed_connection_types: ["IN_PROCESS"] }`, public), err
}

// accounts is the part of the broker's config that says who may connect, and what to do.
func (c credentials) accounts() (string, error) {
	ours := make([]string, 0, 1+len(c.clients))
	internal, err := c.internal.all()
	if err != nil {
		return "", err
	}
	ours = append(ours, internal)
	for _, name := range slices.Sorted(maps.Keys(c.clients)) {
		text, err := c.clients[name].text()
		if err != nil {
			return "", err
		}
		ours = append(ours, text)
	}
	system, err := c.system.all()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("accounts: {\n  %s: {\n    jetstream: enabled\n    users: [\n      %s\n    ]\n  }\n  %s: { users: [ %s ] }\n}\n",
		Account, strings.Join(ours, "\n      "), systemAccount, system), nil
}
