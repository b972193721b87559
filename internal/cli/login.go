package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/smallfile"
	"leasehold/server/access"
)

// login is who connects to a node's NATS listener, and whom it trusts there.
type login struct {
	server       string
	user         string
	passwordFile string
	nkeyFile     string
}

func (l *login) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&l.server, "server", "",
		"NATS address of a node, or several with commas (default: what the agent says)")
	flags.StringVar(&l.user, "user", "", "user to log in as; with --password-file, or a terminal to ask at")
	flags.StringVar(&l.passwordFile, "password-file", "", "file with the user's password in its first line")
	flags.StringVar(&l.nkeyFile, "nkey-file", "", "file with the seed of an nkey, instead of a user and password")
}

// options make the connection's options.
func (l *login) options(ctx context.Context, a *App, info api.TopicInfo, trusted bool) ([]nats.Option, error) {
	opts := []nats.Option{nats.Name("leasehold"), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectBufSize(-1), nats.Timeout(5 * time.Second),
		// The library would print refusals to stderr; here every message has its result.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})}
	who, err := l.credentials(ctx, a)
	if err != nil {
		return nil, err
	}
	if who != nil {
		opts = append(opts, who)
	}
	config, err := a.tlsConfig()
	if err != nil {
		return nil, err
	}
	if config == nil && trusted && info.CA != "" {
		config = trusting([]byte(info.CA))
	}
	if config != nil {
		opts = append(opts, nats.Secure(config))
	}
	return opts, nil
}

func (l *login) credentials(ctx context.Context, a *App) (nats.Option, error) {
	switch {
	case l.nkeyFile != "" && (l.user != "" || l.passwordFile != ""):
		return nil, usage("--nkey-file says who you are; leave out --user and --password-file")
	case l.passwordFile != "" && l.user == "":
		return nil, usage("--password-file needs --user")
	case l.nkeyFile != "":
		_, err := smallfile.Read(l.nkeyFile, smallfile.Most) // Which NATS then reads itself, whatever it is.
		if err != nil {
			return nil, usage("--nkey-file: %s", err)
		}
		key, err := nats.NkeyOptionFromSeed(l.nkeyFile)
		if err != nil {
			return nil, usage("--nkey-file %s: %s; `leasehold user nkey` makes one", l.nkeyFile, err)
		}
		return key, nil
	case l.user == "":
		return nil, nil
	}
	password, err := l.password(ctx, a)
	if err != nil {
		return nil, err
	}
	return nats.UserInfo(l.user, password), nil
}

func (l *login) password(ctx context.Context, a *App) (string, error) {
	if l.passwordFile == "" {
		if !isTerminal(a.In) {
			return "", usage("--user needs --password-file, or a terminal to ask for the password")
		}
		password, err := a.askPassword(ctx, "Password of "+l.user+": ")
		return string(password), err
	}
	text, err := smallfile.Read(l.passwordFile, smallfile.Most)
	if err != nil {
		return "", usage("--password-file: %s", err)
	}
	password, err := firstLine(bytes.NewReader(text))
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	if _, err := access.ParsePasswordHash(string(password)); err == nil {
		return "", usage("--password-file %s holds the hash that the nodes need; here it must hold the password itself",
			l.passwordFile)
	}
	return string(password), nil
}

// connect logs in. trusted says that what the agent told of itself came by a way that nobody else can be on.
func (a *App) connect(ctx context.Context, l login, info api.TopicInfo, trusted bool) (*nats.Conn, error) {
	opts, err := l.options(ctx, a, info, trusted)
	if err != nil {
		return nil, err
	}
	address := cmp.Or(l.server, info.Server)
	nc, err := nats.Connect(address, opts...)
	if err != nil {
		return nil, connectError(address, err)
	}
	if _, err := nc.TLSConnectionState(); err != nil && l.user != "" && !access.IsLoopback(nc.ConnectedAddr()) {
		fmt.Fprintf(a.Err, "Warning: THE PASSWORD OF %s WAS SENT UNENCRYPTED to %s: the node has no TLS\n", l.user,
			nc.ConnectedAddr())
	}
	return nc, nil
}

func connectError(address string, err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	code, hint := exitUnreachable, "look at `leasehold status`, or name another address with --server"
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		code, hint = exitNotAllowed,
			"log in with --user and --password-file, or --nkey-file, as a [[user]] of the nodes' config"
	case errors.As(err, &unknown):
		code, hint = exitNotAllowed, "give the CA with --tls-ca; on a node, `leasehold tls ca` prints it"
	case errors.As(err, &name):
		code, hint = exitNotAllowed,
			"use an address that the certificate names, or add this one to server.tls names on the node"
	case strings.Contains(err.Error(), "secure connection not available"):
		hint = "the node has no TLS: set server.tls there, or leave out --tls-ca"
	}
	return failure(code, hint, "connect to NATS at %s: %w", address, err)
}

// tlsConfig trusts what --tls-ca names; nil without it.
func (a *App) tlsConfig() (*tls.Config, error) {
	if a.caFile == "" {
		return nil, nil
	}
	text, err := smallfile.Read(a.caFile, smallfile.Most)
	if err != nil {
		return nil, usage("--tls-ca: %s", err)
	}
	config := trusting(text)
	if config == nil {
		return nil, usage("--tls-ca: there is no certificate in %s", a.caFile)
	}
	return config, nil
}

// trusting returns nil if there is no certificate in the text.
func trusting(ca []byte) *tls.Config {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
}

// token reads --token-file.
func (a *App) token() (string, error) {
	if a.tokenFile == "" {
		return "", nil
	}
	text, err := smallfile.Read(a.tokenFile, smallfile.Most)
	if err != nil {
		return "", usage("--token-file: %s", err)
	}
	token, err := firstLine(bytes.NewReader(text))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	return strings.TrimSpace(string(token)), nil
}

// nodeClient is a client of the agent at a target, with what was given to be let in.
func (a *App) nodeClient(target string) (*api.Client, error) {
	if api.IsSocket(target) {
		return api.NewClient(target), nil
	}
	token, err := a.token()
	if err != nil {
		return nil, err
	}
	config, err := a.tlsConfig()
	if err != nil {
		return nil, err
	}
	return api.NewClientWith(target, api.ClientOptions{Token: token, TLS: config}), nil
}

// onThisMachine reports whether a target can only be reached from here, so that its word can be taken.
func onThisMachine(target string) bool { return api.IsSocket(target) || access.IsLoopback(target) }

// reachable replaces a node's "any address" by the one at which the agent was asked.
func reachable(listen, target string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsUnspecified() {
		return listen
	}
	asked := "127.0.0.1"
	if !api.IsSocket(target) {
		target = strings.TrimPrefix(strings.TrimPrefix(target, "https://"), "http://")
		if h, _, err := net.SplitHostPort(target); err == nil {
			asked = h
		}
	}
	return net.JoinHostPort(asked, port)
}
