package hostile

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/server/access"
	"leasehold/server/servertest"
)

const attacker, password = "attacker", "password"

// victims are a real node's port for clients, with a stream for the attacker's messages, and an HTTP server.
func victims(t *testing.T) Assault {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	o := servertest.SingleOptions(t)
	o.Users = []access.User{{Name: attacker, PasswordHash: string(hash), Publish: []string{"bulk.*"}}}
	n := servertest.Start(t, o)
	n.WaitReady(t)
	js, err := jetstream.New(connect(t, n))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "bulk", Subjects: []string{"bulk.*"},
		MaxBytes: 16 << 20, Discard: jetstream.DiscardOld}); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	address := strings.TrimPrefix(web.URL, "http://")
	return Assault{
		Clients: []string{n.ClientAddr()}, HTTP: []string{address}, Ports: []string{n.ClientAddr(), address},
		User: attacker, Password: password, Topic: "bulk", For: 500 * time.Millisecond,
	}
}

// Each form reaches what it attacks: it is let in where it must be, and answered or refused.
func TestEveryFormOfAssaultReachesItsVictim(t *testing.T) {
	a := victims(t)
	for _, form := range Forms() {
		a.Form = form
		got, err := a.Run(t.Context())
		t.Logf("%s: %+v, %v", form, got, err)
		if err != nil || got.Made == 0 {
			t.Errorf("%s: %v, %v", form, got, err)
		}
		replies := strings.HasSuffix(form, "replies") || form == "ids of 60 KB"
		if replies && got.Answered == 0 || strings.HasPrefix(form, "flood") && got.Messages == 0 {
			t.Errorf("%s: %+v", form, got)
		}
		refused := []string{"wrong passwords", "ids of 60 KB", "subscriptions"}
		if slices.Contains(refused, form) != (got.Rejected > 0) {
			t.Errorf("%s: %d were rejected", form, got.Rejected)
		}
	}
}

func TestAssaultOfNoKnownFormIsAnError(t *testing.T) {
	if _, err := (Assault{Form: "kindness", For: time.Second}).Run(t.Context()); err == nil ||
		!strings.Contains(err.Error(), "kindness") {
		t.Errorf("%v", err)
	}
}

func connect(t *testing.T, n *servertest.Node) *nats.Conn {
	t.Helper()
	nc, err := n.Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}
