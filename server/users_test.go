package server

import (
	"fmt"
	"strings"
	"testing"

	"leasehold/server/ingress"
)

const aKey = "UB7NLGYK6JTZ2SZQSHHHANNZ72Z6G4F2PKFNSMEUPB5A6NYCAVX6JFIL"

func TestUsersReportEveryFaultByItsKey(t *testing.T) {
	good := UserConfig{Name: "press-4", PasswordFile: "x", Publish: []string{"orders"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for key, spoil := range map[string]func(*UserConfig){
		"name: ":                         func(u *UserConfig) { u.Name = "a b" },
		"name: \"\"":                     func(u *UserConfig) { u.Name = "" },
		"password_file: a user needs":    func(u *UserConfig) { u.PasswordFile = "" },
		"nkey: there is a password_file": func(u *UserConfig) { u.NKey = aKey },
		"nkey: is not a public":          func(u *UserConfig) { u.PasswordFile, u.NKey = "", "A"+aKey[1:] },
		"nkey: this looks like a seed":   func(u *UserConfig) { u.PasswordFile, u.NKey = "", "SUABC" },
		"publish: names no topic":        func(u *UserConfig) { u.Publish = nil },
		"serve: a user publishes or":     func(u *UserConfig) { u.Serve = []string{"billing"} },
	} {
		u := good
		spoil(&u)
		err := u.Validate()
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("user %q: %s", u.Name, key)) {
			t.Errorf("error %v does not say %q", err, key)
		}
		if err != nil && strings.Contains(err.Error(), "SUABC") {
			t.Errorf("error %v repeats a seed", err)
		}
	}
}

func TestPasswordFilesHoldHashesOnly(t *testing.T) {
	hash, err := HashPassword([]byte("press-password"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParsePasswordHash(" " + hash + "\n"); err != nil || got != hash {
		t.Errorf("own hash: %q, %v", got, err)
	}
	for name, text := range map[string]string{
		"empty": "", "a password": "hunter2-hunter2", "two hashes": hash + "\n" + hash, "cut": hash[:59],
		"too dear": strings.Replace(hash, "$10$", "$14$", 1), "impossible": strings.Replace(hash, "$10$", "$99$", 1),
		"injected": hash[:40] + `", permissions: {}`, "variable": "$PASSWORD",
	} {
		if _, err := ParsePasswordHash(text); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Names and subjects go into the broker's config text: none may end its quotes.
func TestUsersCannotBreakOutOfTheBrokersConfig(t *testing.T) {
	for name, u := range map[string]User{
		"name":     {Name: `a", permissions: {`, NKey: aKey, Publish: []string{"a.*"}},
		"hash":     {Name: "a", PasswordHash: `x", permissions: {`, Publish: []string{"a.*"}},
		"nkey":     {Name: "a", NKey: aKey + " }", Publish: []string{"a.*"}},
		"subject":  {Name: "a", NKey: aKey, Publish: []string{`a", ">`}},
		"group":    {Name: "a", NKey: aKey, Serve: []string{"a.>"}},
		"both":     {Name: "a", NKey: aKey, Publish: []string{"a.*"}, Serve: []string{"g"}},
		"no proof": {Name: "a", Publish: []string{"a.*"}},
	} {
		o := clusterOptions(t)
		o.Users = []User{u}
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
	o.Users = []User{{Name: "a", NKey: aKey, Publish: []string{"a.*"}}}
	if _, err := New(o); err != nil {
		t.Errorf("with a user: %v", err)
	}
	for _, u := range o.ingressUsers() {
		if u.Name == ingress.Anonymous {
			t.Error("anonymous clients are let in")
		}
	}
}

func TestTLSTablesReportEveryFaultByItsKey(t *testing.T) {
	for _, c := range []struct {
		tls  TLSConfig
		says string
	}{
		{TLSConfig{}, ""}, {TLSConfig{Mode: "off"}, ""}, {TLSConfig{Mode: "cluster-ca", Names: []string{"n1.plant.lan", "10.0.0.11"}}, ""},
		{TLSConfig{Mode: "files", CertFile: "c", KeyFile: "k"}, ""},
		{TLSConfig{Mode: "files", CertFile: "c", KeyFile: "k", CAFile: "a", VerifyClients: true}, ""},
		{TLSConfig{Mode: "on"}, "server.tls.mode: "},
		{TLSConfig{Mode: "files", CertFile: "c"}, "server.tls.key_file: "},
		{TLSConfig{Mode: "files", KeyFile: "k"}, "server.tls.cert_file: "},
		{TLSConfig{Mode: "cluster-ca", CertFile: "c"}, "server.tls.cert_file: "},
		{TLSConfig{Mode: "cluster-ca", VerifyClients: true}, "server.tls.verify_clients: "},
		{TLSConfig{Mode: "files", CertFile: "c", KeyFile: "k", VerifyClients: true}, "server.tls.ca_file: "},
		{TLSConfig{Mode: "files", CertFile: "c", KeyFile: "k", CAFile: "a"}, "server.tls.ca_file: "},
		{TLSConfig{Mode: "off", CAFile: "a"}, "server.tls.ca_file: "},
		{TLSConfig{Mode: "off", Names: []string{"a"}}, "server.tls.names: "},
		{TLSConfig{Mode: "cluster-ca", Names: []string{"a b"}}, "server.tls.names: "},
	} {
		err := c.tls.Validate("server.tls")
		if (c.says == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%+v: %v, want %q", c.tls, err, c.says)
		}
	}
}
