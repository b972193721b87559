package server

import (
	"strings"
	"testing"

	"leasehold/server/access"
	"leasehold/server/ingress"
)

const userKey = "UB7NLGYK6JTZ2SZQSHHHANNZ72Z6G4F2PKFNSMEUPB5A6NYCAVX6JFIL"

// Names and subjects go into the broker's config text: none may end its quotes.
func TestUsersCannotBreakOutOfTheBrokersConfig(t *testing.T) {
	for name, u := range map[string]access.User{
		"name":     {Name: `a", permissions: {`, NKey: userKey, Publish: []string{"a.*"}},
		"hash":     {Name: "a", PasswordHash: `x", permissions: {`, Publish: []string{"a.*"}},
		"nkey":     {Name: "a", NKey: userKey + " }", Publish: []string{"a.*"}},
		"subject":  {Name: "a", NKey: userKey, Publish: []string{`a", ">`}},
		"group":    {Name: "a", NKey: userKey, Serve: []string{"a.>"}},
		"both":     {Name: "a", NKey: userKey, Publish: []string{"a.*"}, Serve: []string{"g"}},
		"no proof": {Name: "a", Publish: []string{"a.*"}},
	} {
		o := clusterOptions(t)
		o.Users = []access.User{u}
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), "user ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWithoutUsersNobodyElseMayReachTheListener(t *testing.T) {
	o := clusterOptions(t)
	o.Listen = "0.0.0.0:0"
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "[[user]]") {
		t.Errorf("without users: %v", err)
	}
	o.Users = []access.User{{Name: "a", NKey: userKey, Publish: []string{"a.*"}}}
	if _, err := New(o); err != nil {
		t.Errorf("with a user: %v", err)
	}
	for _, u := range o.ingressUsers() {
		if u.Name == ingress.Anonymous {
			t.Error("anonymous clients are let in")
		}
	}
}
