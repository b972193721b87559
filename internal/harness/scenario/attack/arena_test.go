package attack

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"leasehold/internal/harness/testcluster"
)

// Topics and groups of an arena. A group is named after its topic, but for that with the longest name there may be.
const (
	events      = "events" // Its messages are rejected, or not, at once.
	plant       = "plant"  // Has keys of two tokens, which are parked.
	tries       = "tries"  // Its messages are tried four times.
	bulk        = "bulk"   // Takes floods.
	servedTopic = "asked"  // Is served over NATS.
	parrot      = "parrot" // Prints its messages.
)

var triesGroup = "tries-" + strings.Repeat("g", 58)

const attackAttempts = 4

// newArena starts nodes to attack. Clients of a cluster use TLS.
func newArena(t *testing.T, nodes int) *arena {
	t.Helper()
	spec := testcluster.Spec{Nodes: nodes, LogLevel: "info", Binary: *attackedFlag, Server: "max_connections = 1000\n",
		Topics: []testcluster.Topic{
			{Name: events, Partitions: 4}, {Name: plant, Partitions: 4, Extra: "subject = \"plant.*.*\"\nkey = [1, 2]"},
			{Name: tries, Partitions: 4}, {Name: bulk, Partitions: 4, Extra: `max_bytes = "512MiB"`},
			{Name: servedTopic, Partitions: 4}, {Name: parrot, Partitions: 1},
		}}
	if nodes > 1 {
		spec.Server += `tls = { mode = "cluster-ca" }`
	}
	a := &arena{Cluster: testcluster.New(t, spec), mode: "single", tls: nodes > 1, webhook: newReceiver(t, 0),
		small: newReceiver(t, 8<<10)}
	if nodes > 1 {
		a.mode = "cluster"
	}
	a.node = a.Nodes[0]
	for _, name := range []string{"press", "scanner", "labeler"} {
		a.addUser(name)
	}
	a.LetServe("service", "service-password", servedTopic)
	a.addGroups()
	a.StartAll(testcluster.StartLimit)
	for _, g := range a.Spec.Groups {
		a.waitOwned(g.Name)
	}
	return a
}

func (a *arena) addGroups() {
	a.T.Helper()
	quickly := "timeout = \"1s\"\nbackoff = { initial = \"20ms\", max = \"50ms\" }\n"
	attempts := fmt.Sprintf("max_attempts = %d\n", attackAttempts)
	a.AddGroup(testcluster.Group{Name: events, Topic: events, Handler: a.webhook.handler(), Extra: quickly})
	a.AddGroup(testcluster.Group{Name: plant, Topic: plant, Handler: a.webhook.handler(), Extra: quickly + attempts +
		`on_exhausted = "park_key"`})
	a.AddGroup(testcluster.Group{Name: triesGroup, Topic: tries, Handler: a.small.handler(), Extra: quickly + attempts})
	a.AddGroup(testcluster.Group{Name: servedTopic, Topic: servedTopic, Handler: `{ kind = "nats" }`,
		Extra: quickly + `max_attempts = 100`})
	a.AddGroup(testcluster.Group{Name: parrot, Topic: parrot, Handler: a.BackendHandler(1, ""), Extra: quickly})
}

// waitOwned waits until every partition has an owner and, where there are enough of them, every node its share.
func (a *arena) waitOwned(group string) {
	a.T.Helper()
	if len(a.Nodes) > 1 && group != parrot {
		a.WaitBalanced(testcluster.MoveLimit, group)
	}
	a.Owners(group)
}

// addUser adds a user that may publish to events, with a hash that costs what ordinary ones cost.
func (a *arena) addUser(name string) {
	a.T.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(passwordOf(name)), bcrypt.DefaultCost)
	if err != nil {
		a.T.Fatal(err)
	}
	file := filepath.Join(a.Dir, name+".hash")
	a.Write(file, string(hash)+"\n")
	a.Spec.Users += fmt.Sprintf("[[user]]\nname = %q\npassword_file = %q\npublish = [%q]\n", name, file, events)
}

func passwordOf(user string) string { return user + "-password" }

// address is where NATS clients connect to the attacked node.
func (a *arena) address() string { return fmt.Sprintf("%s:%d", a.node.Host.Address, a.node.Ports.NATS) }

// receiver is the service that groups call. A message that begins with a status is answered with it; "hang" is not
// answered.
type receiver struct {
	*httptest.Server
	merciful atomic.Bool // Every message is answered with 200.
}

// newReceiver starts a service that takes headers of so many bytes, 0: of Go's default.
func newReceiver(t *testing.T, headers int) *receiver {
	w := &receiver{}
	w.Server = httptest.NewUnstartedServer(http.HandlerFunc(w.answer))
	w.Config.MaxHeaderBytes = headers
	w.Start()
	t.Cleanup(w.Close)
	return w
}

func (w *receiver) handler() string { return fmt.Sprintf(`{ kind = "http", url = %q }`, w.URL) }

func (w *receiver) answer(out http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if strings.HasPrefix(string(data), "hang") && !w.merciful.Load() {
		<-r.Context().Done()
		return
	}
	status := http.StatusOK
	if n, err := strconv.Atoi(string(data[:min(len(data), 3)])); err == nil && n >= 200 && n < 600 && !w.merciful.Load() {
		status = n
	}
	out.WriteHeader(status)
}

// post publishes over the attacked node's socket. Lines of the head are sent as they are.
func (a *arena) post(path, body string, head ...string) string {
	a.T.Helper()
	w, err := a.dialSocket()
	if err != nil {
		return err.Error()
	}
	defer w.close()
	w.say(fmt.Sprintf("POST /v1/topics/%s HTTP/1.1\r\nHost: leasehold\r\nConnection: close\r\nContent-Length: "+
		"%d\r\n%s\r\n%s",
		path, len(body), strings.Join(append(head, ""), "\r\n"), body))
	return w.response()
}

func (a *arena) dialSocket() (*wire, error) {
	conn, err := net.DialTimeout("unix", filepath.Join(a.node.DataDir(), "leasehold.sock"), answerLimit)
	if err != nil {
		return nil, err
	}
	return &wire{conn: conn, in: bufio.NewReader(conn)}, nil
}

// response is the status of an answer over HTTP, with the code of the rule if one was broken.
func (w *wire) response() string {
	_ = w.conn.SetReadDeadline(time.Now().Add(answerLimit)) // Fails only if it is closed.
	r, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return howEnded(err)
	}
	defer r.Body.Close()
	var said struct {
		ErrCode int    `json:"err_code"`
		Error   string `json:"error"`
	}
	body, err := io.ReadAll(r.Body)
	if err == nil && json.Unmarshal(body, &said) == nil && said.ErrCode > 0 {
		return fmt.Sprintf("HTTP %d %d", r.StatusCode, said.ErrCode)
	}
	return fmt.Sprintf("HTTP %d %s", r.StatusCode, said.Error)
}

// What may come back over HTTP.
const (
	httpRefused = `^HTTP 4`
	httpStored  = `^HTTP 200`
)

// count is how many dead letters the group has, for whose lag it first waits to be 0.
func (a *arena) count(group string) int {
	a.T.Helper()
	a.WaitDrained(testcluster.MoveLimit, group)
	g, err := a.Group(group)
	if err != nil {
		a.T.Fatal(err)
	}
	return g.DeadLetters
}

// deadLettered waits until all that was sent to the group is finished, so many more messages of it by a dead letter.
func (a *arena) deadLettered(group string, before, more int) {
	a.T.Helper()
	testcluster.Eventually(a.T, testcluster.MoveLimit, func() error {
		g, err := a.Group(group)
		switch {
		case err != nil:
			return err
		case g.Lag == nil || *g.Lag > 0:
			return fmt.Errorf("%s %s: %s has lag %s: %v", a.mode, a.id, group, testcluster.LagOf(g), troubles(g))
		case g.DeadLetters != before+more:
			return fmt.Errorf("%s %s: %s has %d dead letters, want %d", a.mode, a.id, group, g.DeadLetters, before+more)
		}
		return nil
	})
	a.rows = append(a.rows, attackRow{mode: a.mode, id: a.id, sent: "the handler",
		answered: fmt.Sprintf("%d dead letters more", more)})
}

// troubles are what the partitions of a group say that does not go on.
func troubles(g testcluster.GroupStatus) (all []string) {
	for _, p := range g.Partitions {
		if p.Error != "" || p.State == "paused" {
			all = append(all, fmt.Sprintf("%d %s: %.100s", p.Partition, p.State, p.Error))
		}
	}
	return all
}
