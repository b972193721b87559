package config

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"leasehold/internal/api/listen"
	"leasehold/internal/fielderr"
	"leasehold/internal/smallfile"
	"leasehold/server/access"
	"leasehold/server/pki"
)

// checkUsers looks at every [[user]] and at what they may do together with the rest.
func (c *Config) checkUsers(f *faults) {
	names, keys := map[string]bool{}, map[string]string{}
	for i, u := range c.Users {
		path := fielderr.Element("user", i)
		f.addAll(path, u.Validate())
		if names[u.Name] {
			f.add(fielderr.Join(path, "name"), "user %q: name: there are two users of this name", u.Name)
		}
		if other, there := keys[u.NKey]; there && u.NKey != "" {
			f.add(fielderr.Join(path, "nkey"), "user %q: nkey: user %q has the same key", u.Name, other)
		}
		names[u.Name], keys[u.NKey] = true, u.Name
		c.checkRights(f, path, u)
	}
}

// checkRights finds rights on what is not there: most likely a name that was mistyped.
func (c *Config) checkRights(f *faults, path string, u access.UserConfig) {
	for _, name := range u.Publish {
		if _, ok := c.Topic(name); !ok {
			f.add(fielderr.Join(path, "publish"), "user %q: publish: there is no topic %q%s", u.Name, name,
				suggest(name, c.topicNames()))
		}
	}
	var groups []string
	for _, g := range c.Groups {
		groups = append(groups, g.Name)
	}
	for _, name := range u.Serve {
		if !slices.Contains(groups, name) {
			f.add(fielderr.Join(path, "serve"), "user %q: serve: there is no group %q%s", u.Name, name, suggest(name, groups))
		}
	}
}

// checkListeners looks at who can reach the listeners, and at what protects them.
func (c *Config) checkListeners(f *faults) {
	f.addAll("server", access.CheckReach(c.Server.Listen, len(c.Users)))
	if err := listen.Check(c.HTTP.Listen, c.HTTP.TokenFile != ""); err != nil {
		f.add("http.listen", "http.listen: %s", err)
	}
	f.addAll("http.tls", c.HTTP.TLS.Validate("http.tls"))
	for key, t := range map[string]pki.TLSConfig{"server.tls.mode": c.Server.TLS, "http.tls.mode": c.HTTP.TLS} {
		if t.UsesSecret() && c.Cluster.SecretFile == "" {
			f.add(key, "%s: %q makes its certificates from the cluster's secret, and there is no cluster.secret_file", key,
				t.Mode)
		}
	}
}

// listenerWarnings is about what travels unencrypted where others can listen. That is allowed, for networks that
// somebody else protects.
func (c *Config) listenerWarnings() (out []string) {
	if !access.IsLoopback(c.Server.Listen) && !c.Server.TLS.On() {
		text := "server.listen: " + c.Server.Listen +
			" can be reached from other machines without TLS: messages travel unencrypted"
		if names := c.passwordUsers(); len(names) > 0 {
			text += ", AND SO DO THE PASSWORDS of " + strings.Join(names, ", ")
		}
		out = append(out, text+"; set server.tls = { mode = \"cluster-ca\" }, or be sure of the network")
	}
	if !access.IsLoopback(c.HTTP.Listen) && !c.HTTP.TLS.On() {
		out = append(out, "http.listen: "+c.HTTP.Listen+
			" can be reached from other machines without TLS: THE TOKEN TRAVELS UNENCRYPTED; "+
			"set http.tls = { mode = \"cluster-ca\" }, or be sure of the network")
	}
	return out
}

func (c *Config) passwordUsers() (names []string) {
	for _, u := range c.Users {
		if u.PasswordFile != "" {
			names = append(names, u.Name)
		}
	}
	return names
}

// ReadUsers reads the users' password files and finds the subjects of their topics. A fault is an *Error, as if it
// stood in the config.
func (c *Config) ReadUsers() ([]access.User, error) {
	var users []access.User
	e := &Error{File: c.path}
	for _, u := range c.Users {
		hash, err := readHash(u)
		if err != nil {
			e.Faults = append(e.Faults, Fault{Message: err.Error()})
			continue
		}
		users = append(users, access.NewUser(u, hash, func(name string) string {
			t, _ := c.Topic(name)
			return t.Subject
		}))
	}
	if len(e.Faults) > 0 {
		return nil, e
	}
	return users, nil
}

func readHash(u access.UserConfig) (string, error) {
	if u.PasswordFile == "" {
		return "", nil
	}
	text, err := smallfile.Read(u.PasswordFile, smallfile.Most)
	if err != nil {
		return "", fmt.Errorf("user %q: password_file: %s", u.Name, fileFault(err, "`leasehold user hash` makes its content"))
	}
	hash, err := access.ParsePasswordHash(string(text))
	if err != nil {
		return "", fmt.Errorf("user %q: password_file: %s %w", u.Name, u.PasswordFile, err)
	}
	return hash, nil
}

// minToken is the length of a token that nobody guesses, as hexadecimal or base64 text.
const minToken = 32

// Token is what callers of the HTTP port must show.
type Token struct {
	Text     string // Empty: nothing.
	Warnings []string
}

// String keeps the token out of logs.
func (t Token) String() string { return fmt.Sprintf("a token of %d characters", len(t.Text)) }

// GoString keeps the token out of logs printed with %#v.
func (t Token) GoString() string { return t.String() }

// ReadToken reads http.token_file. A fault is an *Error, as if it stood in the config.
func (c *Config) ReadToken() (Token, error) {
	if c.HTTP.TokenFile == "" {
		return Token{}, nil
	}
	fault := func(text string) (Token, error) {
		return Token{}, &Error{File: c.path, Faults: []Fault{{Message: "http.token_file: " + text}}}
	}
	text, err := smallfile.Read(c.HTTP.TokenFile, smallfile.Most)
	if err != nil {
		return fault(fileFault(err, "`leasehold user token` makes its content"))
	}
	token := strings.TrimSpace(string(text))
	if len(token) < minToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fault(fmt.Sprintf("%s must hold one line of at least %d letters and digits; `leasehold user token` makes one",
			c.HTTP.TokenFile, minToken))
	}
	return Token{Text: token, Warnings: modeWarnings("http.token_file", c.HTTP.TokenFile)}, nil
}

// fileFault says what to do about a file that cannot be read.
func fileFault(err error, hint string) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return err.Error() + "; " + hint
	case errors.Is(err, fs.ErrPermission):
		return err.Error() + "; the user that runs the agent must be able to read it"
	}
	return err.Error()
}

// checkKeys reads what protects the listeners.
func (c *Config) checkKeys() []Check {
	var checks []Check
	for _, u := range c.Users {
		if u.PasswordFile != "" {
			_, err := readHash(u)
			checks = append(checks, result(fmt.Sprintf("user %q: password", u.Name), u.PasswordFile, err))
		}
	}
	if c.HTTP.TokenFile != "" {
		token, err := c.ReadToken()
		checks = append(checks, warned(result("http token", c.HTTP.TokenFile, plainFault(err)), token.Warnings))
	}
	for _, l := range []struct {
		key string
		tls pki.TLSConfig
	}{{"server.tls", c.Server.TLS}, {"http.tls", c.HTTP.TLS}} {
		if l.tls.CertFile != "" {
			checks = append(checks, result(l.key+" files", l.tls.CertFile, pki.CheckFiles(l.tls)))
		}
	}
	return checks
}

// plainFault is the text of a fault without the file's name in front.
func plainFault(err error) error {
	var e *Error
	if errors.As(err, &e) {
		return errors.New(e.Faults[0].Message)
	}
	return err
}

func warned(check Check, warnings []string) Check {
	if len(warnings) > 0 {
		check.Detail = "warning: " + warnings[0]
	}
	return check
}
