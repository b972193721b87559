package server

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nuid"

	"leasehold/server/access"
	"leasehold/server/ingress"
)

// Role is what one of the node's own connections is for. Each has a user of its own, whose key exists only in this
// process, with lists of all that it may publish and subscribe to: a message that is not what it seems, or that ends
// the connection, reaches no further than the role. Names of subjects and streams of the other packages are repeated
// here.
type Role string

// The roles.
const (
	// Sessions and leases. No byte of a user goes over it, but for keys and reasons inside records.
	Leases      Role = "leases"
	Readers     Role = "readers"     // Reads the topics of the config.
	DeadLetters Role = "deadletters" // Stores and takes the dead letters of the config's groups.
	Publish     Role = "publish"     // Publishes to the topics of the config.
	Services    Role = "services"    // Sends requests to services of the config's groups.
	Peers       Role = "peers"       // Asks and answers the other nodes.
	Operator    Role = "operator"    // Definitions, streams, and what operators look at and ask for.
)

// Roles of connections that the server keeps itself.
const (
	roleIngress  Role = "ingress" // through the ingress, as any client
	roleRoutes   Role = "routes"
	roleActivity Role = "activity"
)

// unlimitedRole is a role without limits. Only a server with Options.Unlimited has it.
const unlimitedRole Role = "test"

// bucketStream and bucketSubjects are the bucket's (cluster/kv.go).
const (
	bucketStream   = "KV_leasehold"
	bucketSubjects = "$KV.leasehold."
	announcements  = "leasehold.internal.record"
)

// rights are what a role may do. A publish that is denied is denied whatever is allowed.
type rights struct {
	publish, deny, subscribe []string
	inbox                    string // below it, it may subscribe to everything; "" if it has none
	answers                  bool   // it may answer what it receives
}

// inboxPrefix is where a role's answers arrive. No other role may listen there.
func (o Options) inboxPrefix(r Role) string { return "_INBOX." + string(r) + "." + o.Node }

// roles lists every role's rights.
func (o Options) roles() map[Role]rights {
	all := map[Role]rights{
		Leases: {
			publish: append(jsAPI(bucketStream, "STREAM.INFO.%s", "STREAM.CREATE.%s", "DIRECT.GET.%s", "DIRECT.GET.%s.>"),
				bucketSubjects+"session.*", bucketSubjects+"lease.*.*", announcements),
			subscribe: []string{announcements},
		},
		Readers:     {publish: o.each(o.Topics, readTopic)},
		DeadLetters: {publish: o.each(o.Groups, useDeadLetters)},
		Publish:     {publish: slices.Clone(o.PublishSubjects)},
		Services:    {publish: o.each(o.Groups, func(g string) []string { return []string{access.ServeSubject(g)} })},
		Peers: {
			publish: []string{"leasehold.internal.status", "leasehold.internal.replica", "leasehold.internal.death",
				"_INBOX." + string(Peers) + ".>"},
			subscribe: []string{"leasehold.internal.status", "leasehold.internal.replica", "leasehold.internal.death"},
		},
		Operator:     operatorRights(),
		roleRoutes:   {publish: []string{touchSubject}, subscribe: []string{touchSubject}},
		roleActivity: {publish: []string{activeSubject}, subscribe: []string{activeSubject}},
	}
	if o.Unlimited {
		all[unlimitedRole] = rights{publish: []string{">"}, subscribe: []string{">"}}
	}
	for role, r := range all {
		r.inbox = o.inboxPrefix(role)
		all[role] = r
	}
	for _, u := range o.ingressUsers() {
		all[ingressRole(u.Name)] = ingressRights(u)
	}
	return all
}

// each is what f allows for all of these names.
func (o Options) each(names []string, f func(string) []string) (all []string) {
	for _, name := range names {
		all = append(all, f(name)...)
	}
	return all
}

// jsAPI are subjects of the JetStream API, each a pattern for one stream.
func jsAPI(stream string, patterns ...string) (all []string) {
	for _, p := range patterns {
		all = append(all, "$JS.API."+strings.ReplaceAll(p, "%s", stream))
	}
	return all
}

// readTopic: readers make and drop consumers, look at single messages, and let another node lead a damaged copy.
func readTopic(topic string) []string {
	return jsAPI(topic, "STREAM.INFO.%s", "STREAM.MSG.GET.%s", "STREAM.LEADER.STEPDOWN.%s", "DIRECT.GET.%s",
		"DIRECT.GET.%s.>", "CONSUMER.CREATE.%s", "CONSUMER.CREATE.%s.>", "CONSUMER.DELETE.%s.*", "CONSUMER.MSG.NEXT.%s.*")
}

func useDeadLetters(group string) []string {
	return append(jsAPI("dlq_"+group, "STREAM.INFO.%s", "STREAM.MSG.GET.%s", "STREAM.MSG.DELETE.%s", "DIRECT.GET.%s"),
		"dlq."+group+".>")
}

// operatorRights leave out the leases, and everything that would change the bucket as a whole.
func operatorRights() rights {
	may := jsAPI("", "STREAM.LIST", "STREAM.INFO.*", "STREAM.CREATE.*", "STREAM.UPDATE.*", "STREAM.DELETE.*",
		"STREAM.PURGE.*", "STREAM.MSG.GET.*", "STREAM.MSG.DELETE.*",
		"DIRECT.GET.>", "CONSUMER.CREATE.>", "CONSUMER.DELETE.>", "CONSUMER.MSG.NEXT.>")
	for _, key := range []string{"control.*", "topic.*", "group.*", "peer.*", "corruption.*", "session.*", "cluster",
		"repair"} {
		may = append(may, bucketSubjects+key)
	}
	deny := jsAPI(bucketStream, "STREAM.CREATE.%s", "STREAM.UPDATE.%s", "STREAM.DELETE.%s", "STREAM.PURGE.%s",
		"STREAM.MSG.DELETE.%s", "CONSUMER.CREATE.%s", "CONSUMER.CREATE.%s.>")
	return rights{publish: append(may, announcements), deny: deny}
}

// ingressRole is the role of a user of the ingress.
func ingressRole(user string) Role { return Role("ingress " + user) }

// ingressRights are what a client's user may do: all that the ingress passes on for it, and nothing else.
func ingressRights(u ingress.User) rights {
	r := rights{publish: u.Publish, subscribe: u.Serve, answers: len(u.Serve) > 0}
	if !r.answers {
		r.inbox = "_INGRESS." + nuid.Next()
	}
	return r
}

// answerLimit is how long the broker remembers whom an answer is for: as long as any timeout of a group makes sense.
const answerLimit = "24h"

// text is the identity in the broker's config.
func (i identity) text() (string, error) {
	public, err := i.key.PublicKey()
	if err != nil {
		return "", err
	}
	publish, subscribe, responses := allowRule(i.publish), i.subscribe, ""
	if len(i.deny) > 0 {
		publish = fmt.Sprintf(`{ allow: ["%s"], deny: ["%s"] }`, strings.Join(i.publish, `", "`),
			strings.Join(i.deny, `", "`))
	}
	if i.inbox != "" {
		subscribe = append(slices.Clone(subscribe), i.inbox+".>")
	}
	if i.answers { // once, and only to the reply subject of a request that it was sent
		responses = fmt.Sprintf(`, allow_responses: { max: 1, expires: %q }`, answerLimit)
	}
	permissions := fmt.Sprintf(`{ publish: %s, subscribe: %s%s }`, publish, allowRule(subscribe), responses)
	return fmt.Sprintf(`{ nkey: %s, allowed_connection_types: ["IN_PROCESS"], permissions: %s }`, public, permissions), nil
}

// accounts is the part of the broker's config that says who may connect, and what to do.
func (c credentials) accounts() (string, error) {
	var ours []string
	for _, role := range slices.Sorted(maps.Keys(c.roles)) {
		text, err := c.roles[role].text()
		if err != nil {
			return "", err
		}
		ours = append(ours, text)
	}
	system, err := c.system.PublicKey()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("accounts: {\n  %s: {\n    jetstream: enabled\n    users: [\n      %s\n    ]\n  }\n"+
		"  %s: { users: [ { nkey: %s, allowed_connection_types: [\"IN_PROCESS\"] } ] }\n}\n",
		Account, strings.Join(ours, "\n      "), systemAccount, system), nil
}
