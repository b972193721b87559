package server

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nkeys"
)

// Role is what one of the node's own connections is for. Each has a user of its own, whose key exists only in this process,
// with lists of all that it may publish and subscribe to: a message that is not what it seems, or that ends the connection,
// reaches no further than the role. Names of subjects and streams of the other packages are repeated here, as in accounts.go.
type Role string

// The roles.
const (
	Leases      Role = "leases"      // Sessions and leases. No byte of a user goes over it, but for keys and reasons inside records.
	Readers     Role = "readers"     // Reads the topics of the config.
	DeadLetters Role = "deadletters" // Stores and takes the dead letters of the config's groups.
	Publish     Role = "publish"     // Publishes to the topics of the config.
	Services    Role = "services"    // Sends requests to services of the config's groups.
	Peers       Role = "peers"       // Asks and answers the other nodes.
	Operator    Role = "operator"    // Definitions, streams, and what operators look at and ask for.
)

// Roles of connections that the server keeps itself.
const (
	roleGate   Role = "gate"
	roleRoutes Role = "routes"
)

// everything is a role without limits. Only a server with Options.Unlimited has it.
const everything Role = "test"

// bucketStream and bucketSubjects are the bucket's (cluster/kv.go).
const (
	bucketStream   = "KV_leasehold"
	bucketSubjects = "$KV.leasehold."
	announcements  = "leasehold.internal.record"
)

// rights are what a role may do. A publish that is denied is denied whatever is allowed.
type rights struct{ publish, deny, subscribe []string }

// inboxPrefix is where a role's answers arrive. No other role may listen there.
func (o Options) inboxPrefix(r Role) string { return "_INBOX." + string(r) + "." + o.Node }

// roles lists every role's rights, but for its inbox.
func (o Options) roles() map[Role]rights {
	all := map[Role]rights{
		Leases: {
			publish: append(api(bucketStream, "STREAM.INFO.%s", "STREAM.CREATE.%s", "DIRECT.GET.%s", "DIRECT.GET.%s.>"),
				bucketSubjects+"session.*", bucketSubjects+"lease.*.*", announcements),
			subscribe: []string{announcements},
		},
		Readers:     {publish: o.each(o.Topics, readTopic)},
		DeadLetters: {publish: o.each(o.Groups, useDeadLetters)},
		Publish:     {publish: slices.Clone(o.PublishSubjects)},
		Services:    {publish: o.each(o.Groups, func(g string) []string { return []string{ServeSubject(g)} })},
		Peers: {
			publish:   []string{"leasehold.internal.status", "leasehold.internal.copy", "leasehold.internal.death", "_INBOX." + string(Peers) + ".>"},
			subscribe: []string{"leasehold.internal.status", "leasehold.internal.copy", "leasehold.internal.death"},
		},
		Operator:   operatorRights(),
		roleRoutes: {publish: []string{touchSubject}, subscribe: []string{touchSubject}},
	}
	if o.Mode == Cluster {
		all[roleGate] = o.gateRights()
	}
	if o.Unlimited {
		all[everything] = rights{publish: []string{">"}, subscribe: []string{">"}}
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

// api are subjects of the JetStream API, each a pattern for one stream.
func api(stream string, patterns ...string) (all []string) {
	for _, p := range patterns {
		all = append(all, "$JS.API."+strings.ReplaceAll(p, "%s", stream))
	}
	return all
}

// readTopic: readers make and drop consumers, look at single messages, and let another node lead a damaged copy.
func readTopic(topic string) []string {
	return api(topic, "STREAM.INFO.%s", "STREAM.MSG.GET.%s", "STREAM.LEADER.STEPDOWN.%s", "DIRECT.GET.%s", "DIRECT.GET.%s.>",
		"CONSUMER.CREATE.%s", "CONSUMER.CREATE.%s.>", "CONSUMER.DELETE.%s.*", "CONSUMER.MSG.NEXT.%s.*")
}

func useDeadLetters(group string) []string {
	return append(api("dlq_"+group, "STREAM.INFO.%s", "STREAM.MSG.GET.%s", "STREAM.MSG.DELETE.%s", "DIRECT.GET.%s"), "dlq."+group+".>")
}

// operatorRights leave out the leases, and everything that would change the bucket as a whole.
func operatorRights() rights {
	may := api("", "STREAM.INFO.*", "STREAM.CREATE.*", "STREAM.UPDATE.*", "STREAM.PURGE.*", "STREAM.MSG.GET.*", "STREAM.MSG.DELETE.*",
		"DIRECT.GET.>", "CONSUMER.CREATE.>", "CONSUMER.DELETE.>", "CONSUMER.MSG.NEXT.>")
	for _, key := range []string{"control.*", "topic.*", "group.*", "peer.*", "damage.*", "session.*", "cluster", "repair"} {
		may = append(may, bucketSubjects+key)
	}
	deny := api(bucketStream, "STREAM.CREATE.%s", "STREAM.UPDATE.%s", "STREAM.PURGE.%s", "STREAM.MSG.DELETE.%s",
		"CONSUMER.CREATE.%s", "CONSUMER.CREATE.%s.>")
	return rights{publish: append(may, announcements), deny: deny}
}

// gateRights: what came in goes on to a topic, and a topic's answer to the publisher.
func (o Options) gateRights() rights {
	topics := slices.Clone(o.PublishSubjects)
	for _, u := range o.Users {
		topics = append(topics, u.Publish...)
	}
	return rights{publish: append(unique(topics), "_R_.>"), subscribe: []string{o.entry() + ">", answerPrefix(o.Node) + ">"}}
}

// roleUser is a role's user in the broker's config.
func (o Options) roleUser(role Role, key string, r rights) string {
	publish := allowRule(r.publish)
	if len(r.deny) > 0 {
		publish = fmt.Sprintf(`{ allow: ["%s"], deny: ["%s"] }`, strings.Join(r.publish, `", "`), strings.Join(r.deny, `", "`))
	}
	inbox := o.inboxPrefix(role) + ".>"
	return fmt.Sprintf(`{ nkey: %s, allowed_connection_types: ["IN_PROCESS"], permissions: { publish: %s, subscribe: %s } }`,
		key, publish, allowRule(append(slices.Clone(r.subscribe), inbox)))
}

// roleUsers are the users of all roles, in the order of their names.
func (o Options) roleUsers(keys map[Role]nkeys.KeyPair) ([]string, error) {
	var users []string
	all := o.roles()
	for _, role := range o.roleNames() {
		public, err := keys[role].PublicKey()
		if err != nil {
			return nil, err
		}
		users = append(users, o.roleUser(role, public, all[role]))
	}
	return users, nil
}

func (o Options) roleNames() []Role {
	var names []Role
	for role := range o.roles() {
		names = append(names, role)
	}
	slices.Sort(names)
	return names
}
