package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/fielderr"
	"leasehold/internal/smallfile"
)

// TLSConfig is how a listener for clients is protected: [server] tls and [http] tls.
type TLSConfig struct {
	Mode string `toml:"mode"` // "off", "cluster-ca" or "files"
	// cluster-ca: what clients call this node, besides its host name and addresses
	Names         []string `toml:"names"`
	CertFile      string   `toml:"cert_file"`      // files: PEM, own certificate first, then those between it and the CA
	KeyFile       string   `toml:"key_file"`       // files: PEM
	CAFile        string   `toml:"ca_file"`        // files: PEM of the CAs of client certificates
	VerifyClients bool     `toml:"verify_clients"` // files: refuse clients without a certificate of ca_file
}

// Ways to protect a listener.
const (
	tlsOff       = "off"
	tlsClusterCA = "cluster-ca" // certificates made from the cluster's secret
	tlsFiles     = "files"
)

// DefaultTLSConfig is what a missing table means.
func DefaultTLSConfig() TLSConfig { return TLSConfig{Mode: tlsOff} }

// On reports whether the listener speaks TLS.
func (c TLSConfig) On() bool { return c.Mode != tlsOff && c.Mode != "" }

// UsesSecret reports whether the certificates come from the cluster's secret.
func (c TLSConfig) UsesSecret() bool { return c.Mode == tlsClusterCA }

// dnsName is a host name as it may stand in a certificate.
var dnsName = regexp.MustCompile(`^(\*\.)?(` + dnsLabel + `\.)*` + dnsLabel + `$`)

const dnsLabel = `[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?`

// Validate returns every fault of the table, each a *fielderr.Error. table is the table's name in messages.
func (c TLSConfig) Validate(table string) error {
	faults := fielderr.NewList(table + ".")
	fault := faults.Add
	switch c.Mode {
	case tlsOff, tlsClusterCA, tlsFiles, "":
	default:
		fault("mode", "%q is not %q, %q or %q", c.Mode, tlsOff, tlsClusterCA, tlsFiles)
		return faults.Err()
	}
	for _, n := range c.Names {
		if net.ParseIP(n) == nil && !dnsName.MatchString(n) {
			fault("names", "%q is not a host name or address", n)
		}
	}
	if len(c.Names) > 0 && c.Mode != tlsClusterCA {
		fault("names", "are for mode = %q; with files they stand in the certificate", tlsClusterCA)
	}
	c.validateFiles(fault)
	return faults.Err()
}

func (c TLSConfig) validateFiles(fault func(key, format string, args ...any)) {
	needed := c.Mode == tlsFiles
	for _, f := range []struct{ key, path string }{{"cert_file", c.CertFile}, {"key_file", c.KeyFile}} {
		switch {
		case needed && f.path == "":
			fault(f.key, "mode = %q needs it", tlsFiles)
		case !needed && f.path != "":
			fault(f.key, "is for mode = %q", tlsFiles)
		}
	}
	switch {
	case !needed && c.VerifyClients:
		fault("verify_clients", "is for mode = %q; with the cluster's CA, users have passwords or nkeys", tlsFiles)
	case !needed && c.CAFile != "":
		fault("ca_file", "is for mode = %q", tlsFiles)
	case c.VerifyClients != (c.CAFile != ""):
		fault("ca_file", "ca_file and verify_clients = true go together: the CAs of the certificates that clients must show")
	}
}

// ListenerTLS makes the TLS config of a listener for clients, nil if it has none. It keeps itself fresh: certificates
// of the cluster's CA are remade daily, files are read again when they have changed.
func ListenerTLS(c TLSConfig, secrets [][]byte, log hclog.Logger) (*tls.Config, error) {
	switch c.Mode {
	case tlsClusterCA:
		return clusterTLS(c.Names, secrets, time.Now)
	case tlsFiles:
		return newCertReloader(c, log.Named("tls")).tlsConfig()
	}
	return nil, nil
}

// CheckFiles reads the files once and says what is wrong with them.
func CheckFiles(c TLSConfig) error {
	config, err := newCertReloader(c, hclog.NewNullLogger()).read()
	if err != nil {
		return err
	}
	if end := config.Certificates[0].Leaf.NotAfter; end.Before(time.Now()) {
		return fmt.Errorf("the certificate in %s has expired (%s)", c.CertFile, end.Format(time.DateOnly))
	}
	return nil
}

// ClientCA is the PEM of what clients trust: the client CA of each secret, the current one first. While the secret is
// being changed these are two, and clients need both before the nodes show certificates of the new one.
func ClientCA(secrets [][]byte) ([]byte, error) {
	if err := CheckSecrets(secrets); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, s := range secrets {
		ca, err := NewAuthority(s, ClientAuthority)
		if err != nil {
			return nil, err
		}
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// clusterTLS shows a certificate of the first secret's client CA.
func clusterTLS(names []string, secrets [][]byte, now func() time.Time) (*tls.Config, error) {
	if err := CheckSecrets(secrets); err != nil {
		return nil, err
	}
	ca, err := NewAuthority(secrets[0], ClientAuthority)
	if err != nil {
		return nil, err
	}
	own := names
	if host, err := os.Hostname(); err == nil && dnsName.MatchString(host) {
		own = append(slices.Clone(names), host)
	}
	leaves := &addressLeaves{ca: ca, names: append(own, "localhost"),
		now: within(now, validFrom.Add(time.Hour), ca.cert.NotAfter.Add(-clientLeafValidity))}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return leaves.leaf(localIP(h.Conn))
		},
		SessionTicketsDisabled: true,
	}, nil
}

// localIP is the address of ours that a client connected to.
func localIP(c net.Conn) net.IP {
	if c == nil {
		return nil
	}
	if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
		return a.IP
	}
	return nil
}

// addressLeaves keeps a certificate for each of this machine's addresses that clients connect to. So an address may
// change, and none is told to clients that did not know it already.
type addressLeaves struct {
	ca    Authority
	names []string
	now   func() time.Time

	mu sync.Mutex
	by map[string]*leafCache // by address; at most maxAddresses
}

// maxAddresses bounds the memory: on the loopback interface alone there are 2²⁴ addresses to connect to.
const maxAddresses = 64

func (a *addressLeaves) leaf(ip net.IP) (*tls.Certificate, error) {
	a.mu.Lock()
	k := a.by[string(ip)]
	if k == nil {
		if a.by == nil || len(a.by) >= maxAddresses {
			a.by = map[string]*leafCache{}
		}
		k = &leafCache{now: a.now, make: func(now time.Time) (*tls.Certificate, error) {
			t := a.template(ip)
			t.NotAfter = now.Add(clientLeafValidity)
			return NewLeaf(a.ca, t)
		}}
		a.by[string(ip)] = k
	}
	a.mu.Unlock()
	return k.leaf()
}

// template is for a server only: it must not open anything as a client.
func (a *addressLeaves) template(ip net.IP) *x509.Certificate {
	t := &x509.Certificate{Subject: pkix.Name{CommonName: a.names[0]},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, n := range a.names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	if ip != nil {
		t.IPAddresses = append(t.IPAddresses, ip)
	}
	return t
}

// certReloader serves certificates from files and reads them again when they have changed. What is being replaced may
// be half there: as long as the new files do not fit together, the old certificate is shown.
type certReloader struct {
	c   TLSConfig
	log hclog.Logger

	mu     sync.Mutex
	looked time.Time
	seen   string // stamps of the files as last looked at
	config *tls.Config
}

// filesLooked is how often, at most, changed files are looked for.
const filesLooked = time.Second

func newCertReloader(c TLSConfig, log hclog.Logger) *certReloader {
	return &certReloader{c: c, log: log}
}

// tlsConfig reads the files and fails if they are of no use.
func (k *certReloader) tlsConfig() (*tls.Config, error) {
	k.seen = k.stamp()
	config, err := k.read()
	if err != nil {
		return nil, err
	}
	if end := config.Certificates[0].Leaf.NotAfter; end.Before(time.Now()) {
		k.log.Warn("certificate has expired, clients will refuse it", "file", k.c.CertFile, "until", end)
	}
	k.config = config
	base := config.Clone()
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return k.current(time.Now()), nil }
	return base, nil
}

func (k *certReloader) current(now time.Time) *tls.Config {
	k.mu.Lock()
	defer k.mu.Unlock()
	if since := now.Sub(k.looked); since >= 0 && since < filesLooked {
		return k.config
	}
	k.looked = now
	stamp := k.stamp() // before the files are read: a change in between is found by the next look
	if stamp == k.seen {
		return k.config
	}
	k.seen = stamp
	config, err := k.read()
	if err != nil {
		k.log.Warn("changed certificate is not usable, keeping the previous one", "error", err)
		return k.config
	}
	k.log.Info("certificate reloaded", "file", k.c.CertFile, "until", config.Certificates[0].Leaf.NotAfter)
	k.config = config
	return config
}

func (k *certReloader) stamp() string {
	text := ""
	for _, path := range []string{k.c.CertFile, k.c.KeyFile, k.c.CAFile} {
		if info, err := os.Stat(path); err == nil {
			text += fmt.Sprint(info.ModTime().UnixNano(), info.Size(), ";")
		}
	}
	return text
}

func (k *certReloader) read() (*tls.Config, error) {
	cert, err := smallfile.KeyPair(k.c.CertFile, k.c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s and key %s: %w", k.c.CertFile, k.c.KeyFile, err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert},
		SessionTicketsDisabled: true}
	if !k.c.VerifyClients {
		return config, nil
	}
	text, err := smallfile.Read(k.c.CAFile, smallfile.Most)
	if err != nil {
		return nil, fmt.Errorf("read ca_file: %w", err)
	}
	config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !config.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read ca_file: there is no certificate in %s", k.c.CAFile)
	}
	return config, nil
}
