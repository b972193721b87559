package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"leasehold/server/access"
)

const nkey = "UB7NLGYK6JTZ2SZQSHHHANNZ72Z6G4F2PKFNSMEUPB5A6NYCAVX6JFIL"

const withUsers = smallest + `
[[user]]
name = "press"
password_file = "press.hash"
publish = ["orders"]

[[user]]
name = "scanner"
nkey = "` + nkey + `"
serve = ["billing"]
`

func TestUsersGetTheSubjectsOfTheirTopics(t *testing.T) {
	c := mustLoad(t, strings.Replace(withUsers, "partitions = 64", "partitions = 64\nsubject = \"plant.*.order\"", 1))
	hash, err := access.HashPassword([]byte("press-password"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(filepath.Dir(c.Path()), "press.hash")
	if c.Users[0].PasswordFile != file {
		t.Errorf("password file is %s", c.Users[0].PasswordFile)
	}
	if _, err := c.ReadUsers(); err == nil || !strings.Contains(err.Error(), "leasehold user hash") {
		t.Errorf("without the file: %v", err)
	}
	write(t, file, "press-password\n", 0o600)
	if _, err := c.ReadUsers(); err == nil || strings.Contains(err.Error(), "press-password") {
		t.Errorf("with a password in it: %v", err)
	}
	write(t, file, hash+"\n", 0o600)
	users, err := c.ReadUsers()
	if err != nil || len(users) != 2 {
		t.Fatalf("got %v, %v", users, err)
	}
	if u := users[0]; u.PasswordHash != hash || len(u.Publish) != 1 || u.Publish[0] != "plant.*.order" {
		t.Errorf("press: %+v, publishes to %v", u, u.Publish)
	}
	if u := users[1]; u.NKey != nkey || len(u.Publish) != 0 || u.Serve[0] != "billing" {
		t.Errorf("scanner: %+v", u)
	}
}

func TestUsersThatCannotWorkAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		from, to string
		line     int
		parts    []string
	}{
		"unknown topic": {`publish = ["orders"]`, `publish = ["order"]`, 21,
			[]string{`user "press": publish: there is no topic "order"`, `did you mean "orders"`}},
		"unknown group": {`serve = ["billing"]`, `serve = ["biling"]`, 26,
			[]string{`user "scanner": serve: there is no group "biling"`}},
		"same name": {`name = "scanner"`, `name = "press"`, 24, []string{"two users of this name"}},
		"plain password": {`password_file = "press.hash"`, `password = "secret"`, 20,
			[]string{`unknown key "user.password"`}},
		"both": {`serve = ["billing"]`, "serve = [\"billing\"]\npublish = [\"orders\"]", 26,
			[]string{"make two users"}},
		"tls mode": {"[[topic]]", "[server]\ntls = { mode = \"on\" }\n[[topic]]", 10, []string{"server.tls.mode"}},
		"tls unknown key": {"[[topic]]", "[server]\ntls = { mod = \"off\" }\n[[topic]]", 10,
			[]string{`unknown key "server.tls.mod"`}},
		"open http": {"[[topic]]", "[http]\nlisten = \"0.0.0.0:8222\"\n[[topic]]", 10,
			[]string{"http.listen", "token_file"}},
		"http tls": {"[[topic]]", "[http]\ntls = { mode = \"files\", key_file = \"k\" }\n[[topic]]", 10,
			[]string{"http.tls.cert_file"}},
	} {
		t.Run(name, func(t *testing.T) {
			wantFault(t, faultsOf(t, strings.Replace(withUsers, c.from, c.to, 1)), c.line, c.parts...)
		})
	}
	open := strings.Replace(smallest, "[[topic]]", "[server]\nlisten = \"0.0.0.0:4222\"\n[[topic]]", 1)
	wantFault(t, faultsOf(t, open), 10, "server.listen", "there is no [[user]]")
	single := "[node]\nname = \"n1\"\n[server]\ntls = { mode = \"cluster-ca\" }\n"
	wantFault(t, faultsOf(t, single), 4, "server.tls.mode", "cluster.secret_file")
}

func TestOpenListenersWithoutTLSAreLoudWarnings(t *testing.T) {
	open := strings.Replace(withUsers, "[[topic]]",
		"[server]\nlisten = \"0.0.0.0:4222\"\nTLS\n[http]\nlisten = \"0.0.0.0:8222\"\ntoken_file = \"token\"\nTLS\n[[topic]]",
		1)
	text := strings.Join(mustLoad(t, strings.ReplaceAll(open, "TLS\n", "")).Warnings(), "\n")
	for _, part := range []string{"server.listen", "PASSWORDS of press;", "http.listen", "THE TOKEN"} {
		if !strings.Contains(text, part) {
			t.Errorf("warnings %q do not say %q", text, part)
		}
	}
	if w := mustLoad(t, strings.ReplaceAll(open, "TLS\n", "tls = { mode = \"cluster-ca\" }\n")).Warnings(); len(w) != 0 {
		t.Errorf("with TLS: %v", w)
	}
}

func TestTokensThatAreGuessedAreRefused(t *testing.T) {
	c := mustLoad(t, strings.Replace(smallest, "[[topic]]", "[http]\ntoken_file = \"token\"\n[[topic]]", 1))
	if _, err := c.ReadToken(); err == nil || !strings.Contains(err.Error(), "leasehold user token") {
		t.Errorf("absent: %v", err)
	}
	for name, text := range map[string]string{"empty": "", "short": "hunter2", "two lines": NewSecret() + NewSecret(),
		"spaces": strings.Repeat("a b ", 20)} {
		write(t, c.HTTP.TokenFile, text, 0o600)
		if _, err := c.ReadToken(); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Remove(c.HTTP.TokenFile); err != nil {
		t.Fatal(err)
	}
	write(t, c.HTTP.TokenFile, NewSecret(), 0o644)
	if token, err := c.ReadToken(); err != nil || len(token.Text) != 64 || len(token.Warnings) != 1 {
		t.Errorf("good: %v, %v, %v", token, token.Warnings, err)
	}
}

func TestEnvironmentChecksKeysAndPasswords(t *testing.T) {
	c := mustLoad(t, strings.Replace(withUsers, "[[topic]]",
		"[server]\ntls = { mode = \"files\", cert_file = \"c.pem\", key_file = \"k.pem\" }\n[http]\ntoken_file = "+
			"\"token\"\n[[topic]]", 1))
	failed := map[string]bool{}
	for _, check := range c.CheckEnvironment(t.Context()) {
		failed[check.Name] = !check.OK
	}
	for _, name := range []string{`user "press": password`, "http token", "server.tls files"} {
		if !failed[name] {
			t.Errorf("%s did not fail: %v", name, failed)
		}
	}
}
