// Package access says who may connect to a node's listener: users, the hashes of their passwords, and what each may
// publish or serve.
package access

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/nats-io/nkeys"
	"golang.org/x/crypto/bcrypt"

	"leasehold/internal/fielderr"
	"leasehold/internal/validname"
)

// Clients on other machines are users: each may publish to the topics it is given, or answer for the groups it is
// given, and receive answers. Nothing else, and at two walls: the ingress passes on what is on the user's list and
// nothing else, and the user's connection to the broker has permissions for the same list.

// UserConfig is one [[user]] table.
type UserConfig struct {
	Name         string   `toml:"name"`          // what the client gives as user name; for nkeys, a label for operators
	PasswordFile string   `toml:"password_file"` // holds a bcrypt hash, never a password
	NKey         string   `toml:"nkey"`          // public user key, "U…", instead of a password
	Publish      []string `toml:"publish"`       // names of topics
	Serve        []string `toml:"serve"`         // names of groups whose requests the client may answer
}

// Validate returns every fault that the table itself has, each a *fielderr.Error.
func (u UserConfig) Validate() error {
	faults := fielderr.NewList(fmt.Sprintf("user %q: ", u.Name))
	fault := faults.Add
	if !validname.OK(u.Name) {
		fault("name", "%q %s", u.Name, validname.Rule)
	}
	switch {
	case u.PasswordFile != "" && u.NKey != "":
		fault("nkey", "there is a password_file as well; a user has one of them")
	case u.PasswordFile == "" && u.NKey == "":
		fault("password_file", "a user needs a password_file (`leasehold user hash` makes its content) or an nkey "+
			"(`leasehold user nkey`)")
	case u.NKey != "":
		if text := nkeyFault(u.NKey); text != "" {
			fault("nkey", "%s", text)
		}
	}
	switch {
	case len(u.Publish) == 0 && len(u.Serve) == 0:
		fault("publish", "names no topic, and serve no group: this user could do nothing")
	case len(u.Publish) > 0 && len(u.Serve) > 0:
		fault("serve", "a user publishes or serves, not both: make two users")
	}
	return faults.Err()
}

// nkeyFault never repeats the text: it may be a seed, which is the secret half.
func nkeyFault(key string) string {
	switch {
	case strings.HasPrefix(key, "S"):
		return "this looks like a seed, which is secret and stays with the client; the public key begins with U"
	case !nkeys.IsValidPublicUserKey(key):
		return "is not a public user key (56 characters, the first is U); `leasehold user nkey` makes one"
	}
	return ""
}

// User is a client user as the broker gets it.
type User struct {
	Name         string
	PasswordHash string   // bcrypt, see ParsePasswordHash; "" if there is an NKey
	NKey         string   // "" if there is a password
	Publish      []string // subjects
	Serve        []string // groups; nobody has both
}

// NewUser makes the user of a table. hash is what its password file holds, subject finds a topic's subject.
func NewUser(c UserConfig, hash string, subject func(topic string) string) User {
	u := User{Name: c.Name, PasswordHash: hash, NKey: c.NKey, Serve: c.Serve}
	for _, topic := range c.Publish {
		u.Publish = append(u.Publish, subject(topic))
	}
	return u
}

// GoString keeps the hash out of logs printed with %#v.
func (u User) GoString() string { return u.String() }

// String keeps the hash out of logs.
func (u User) String() string { return fmt.Sprintf("user %s", u.Name) }

// ServeSubject is where the requests of a group with a handler of kind "nats" go. Its services answer on the reply
// subject of each request; a queue group of any name spreads the requests over several of them.
func ServeSubject(group string) string { return "leasehold.serve." + group }

func (u User) Validate() error {
	var errs []error
	if !validname.OK(u.Name) {
		errs = append(errs, fmt.Errorf("user %q: name: is not a valid name", u.Name))
	}
	if (u.NKey == "") == (u.PasswordHash == "") {
		errs = append(errs, fmt.Errorf("user %q: password_file: needs a password or an nkey", u.Name))
	}
	if u.PasswordHash != "" {
		if _, err := ParsePasswordHash(u.PasswordHash); err != nil {
			errs = append(errs, fmt.Errorf("user %q: password_file: %w", u.Name, err))
		}
	}
	if u.NKey != "" && !nkeys.IsValidPublicUserKey(u.NKey) {
		errs = append(errs, fmt.Errorf("user %q: nkey: is not a public user key", u.Name))
	}
	if len(u.Publish) > 0 && len(u.Serve) > 0 {
		errs = append(errs, fmt.Errorf("user %q: serve: a user publishes or serves, not both", u.Name))
	}
	for _, s := range u.Publish {
		if !ValidSubject(s) {
			errs = append(errs, fmt.Errorf("user %q: publish: %q is not a valid subject", u.Name, s))
		}
	}
	for _, g := range u.Serve {
		if !validname.OK(g) {
			errs = append(errs, fmt.Errorf("user %q: serve: %q is not a valid group name", u.Name, g))
		}
	}
	return errors.Join(errs...)
}

// Bounds of a password, and what its hash costs. 10 takes a small board about 0.2 s; beyond 13 a login takes longer
// than clients wait.
const (
	minPassword = 8
	maxPassword = 72 // bcrypt's own limit, bytes
	hashCost    = 10
	maxHashCost = 13
)

// HashPassword makes what a password_file holds.
func HashPassword(password []byte) (string, error) {
	if len(password) < minPassword || len(password) > maxPassword {
		return "", fmt.Errorf("the password has %d bytes; it must have %d to %d", len(password), minPassword, maxPassword)
	}
	hash, err := bcrypt.GenerateFromPassword(password, hashCost)
	if err != nil {
		return "", fmt.Errorf("hash the password: %w", err)
	}
	return string(hash), nil
}

var bcryptHash = regexp.MustCompile(`^\$2[abxy]\$[0-9]{2}\$[./A-Za-z0-9]{53}$`)

// ParsePasswordHash checks the content of a password_file. Its errors do not repeat the content, which may be a
// password that somebody put there by mistake.
func ParsePasswordHash(text string) (string, error) {
	hash := strings.TrimSpace(text)
	if !bcryptHash.MatchString(hash) {
		return "", errors.New("does not hold a bcrypt hash; `leasehold user hash` makes one from a password")
	}
	cost, err := bcrypt.Cost([]byte(hash))
	if err != nil || cost < bcrypt.MinCost || cost > maxHashCost {
		return "", fmt.Errorf("holds a bcrypt hash of cost %d, which must be within %d to %d; `leasehold user hash` makes "+
			"one of %d",
			cost, bcrypt.MinCost, maxHashCost, hashCost)
	}
	return hash, nil
}

// CheckReach refuses a listener that other machines could reach while there are no users: without them, anyone who
// reaches it may publish. The error is a *fielderr.Error of the table server.
func CheckReach(listen string, users int) error {
	if users > 0 || IsLoopback(listen) {
		return nil
	}
	return &fielderr.Error{Key: "listen", Name: "server.listen", Err: fmt.Errorf(
		"%q is not a loopback address and there is no [[user]], so anyone who reaches the port could publish: "+
			"add a [[user]], or use 127.0.0.1:%s", listen, portOf(listen))}
}

// IsLoopback reports whether only this machine can reach a listener at host:port.
func IsLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// ValidSubject reports whether a subject is one of the broker's and can stand in quotes in its config. The first half
// is nats-server's IsValidSubject, repeated so that this package does not import the broker.
func ValidSubject(s string) bool {
	if strings.ContainsAny(s, "\"\\\t\n\f\r ") {
		return false
	}
	tokens := strings.Split(s, ".")
	for i, token := range tokens {
		if token == "" || token == ">" && i < len(tokens)-1 {
			return false
		}
	}
	return true
}
