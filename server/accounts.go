package server

import (
	"fmt"
	"slices"
	"strings"
)

// Accounts beside ours and the system's. A user's account is userAccount and its name.
const (
	localAccount    = "LOCAL"    // clients without credentials, on loopback
	servicesAccount = "SERVICES" // users that serve: one account, so that a queue group of several spreads the requests
	userAccount     = "USER_"
)

// inboxes is where NATS clients receive answers. Every account has its own.
const inboxes = "_INBOX.>"

// How long the broker remembers whom an answer is for. An acknowledgement that takes longer is asked for again; a service
// may take as long as any timeout of a group makes sense.
const (
	ackLimit    = "30s"
	answerLimit = "24h"
)

// account is one account of the broker's config.
type account struct {
	name    string
	storage bool
	users   []string
	exports []string
	imports []string
}

func (a account) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %s: {\n", a.name)
	if a.storage {
		b.WriteString("    jetstream: enabled\n")
	}
	for _, part := range []struct {
		key  string
		list []string
	}{{"users", a.users}, {"exports", a.exports}, {"imports", a.imports}} {
		if len(part.list) > 0 {
			fmt.Fprintf(&b, "    %s: [\n      %s\n    ]\n", part.key, strings.Join(part.list, "\n      "))
		}
	}
	b.WriteString("  }\n")
	return b.String()
}

// inProcess is a user of ours: nobody else has its key, and over TCP it would be of no use to him.
func inProcess(key string) string {
	return fmt.Sprintf(`{ nkey: %s, allowed_connection_types: ["IN_PROCESS"] }`, key)
}

func exported(subject, limit string) string {
	return fmt.Sprintf(`{ service: %q, threshold: %q }`, subject, limit)
}

// imported lets an account's clients send to a subject of another account under a name of its own.
func imported(from, subject, as string) string {
	return fmt.Sprintf(`{ service: { account: %s, subject: %q }, to: %q }`, from, subject, as)
}

// publisherAccount holds one user that publishes to subjects, which begin with prefix in our account.
func publisherAccount(name, user, prefix string, subjects []string) account {
	a := account{name: name, users: []string{user}}
	for _, s := range subjects {
		a.imports = append(a.imports, imported(Account, prefix+s, s))
	}
	return a
}

// accounts lists every account. roles are the users of our own, the others keys.
func (o Options) accounts(roles []string, system, local string) []account {
	ours := account{name: Account, storage: true, users: roles}
	services := account{name: servicesAccount}
	var publishers []account
	var topics, groups []string
	entry := o.entry()
	if o.admitsAnyone() {
		anyone := fmt.Sprintf("{ nkey: %s, permissions: { publish: %s, subscribe: %s } }",
			local, allowRule(o.PublishSubjects), allowRule([]string{inboxes}))
		publishers = append(publishers, publisherAccount(localAccount, anyone, entry, o.PublishSubjects))
		topics = append(topics, o.PublishSubjects...)
	}
	for _, u := range o.Users {
		if len(u.Serve) > 0 {
			services.users = append(services.users, u.text())
			groups = append(groups, u.Serve...)
			continue
		}
		publishers = append(publishers, publisherAccount(userAccount+u.Name, u.text(), entry, u.Publish))
		topics = append(topics, u.Publish...)
	}
	for _, t := range unique(topics) {
		ours.exports = append(ours.exports, exported(entry+t, ackLimit))
	}
	for _, g := range unique(groups) {
		services.exports = append(services.exports, exported(ServeSubject(g), answerLimit))
		ours.imports = append(ours.imports, imported(servicesAccount, ServeSubject(g), ServeSubject(g)))
	}
	all := append([]account{ours, {name: systemAccount, users: []string{inProcess(system)}}}, publishers...)
	if len(services.users) > 0 {
		all = append(all, services)
	}
	return all
}

// admitsAnyone reports whether clients need no credentials: only where nobody but this machine can reach the listener.
func (o Options) admitsAnyone() bool { return IsLoopback(o.Listen) }

func unique(list []string) []string {
	sorted := slices.Sorted(slices.Values(list))
	return slices.Compact(sorted)
}
