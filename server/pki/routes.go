// Package pki makes the TLS configs of a node: of the routes between brokers, whose certificates are derived from the
// cluster secret, and of the listener for clients.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync"
	"time"
)

// Routes are mutual TLS, and the right to make one is the knowledge of the cluster's secret: each node derives the
// same CA key from it and signs itself a certificate, in memory, that no disk ever sees. There is nothing to hand out,
// to renew by hand or to expire on a site that nobody visits.

// secretBytes is the length of a cluster secret.
const secretBytes = 32

// routeName stands in every leaf instead of the node's address: addresses change, and who holds the secret is a member.
const routeName = "route.leasehold.internal"

// Times in certificates. Machines without a clock of their own start in the past, sometimes by years, a clock is set
// right by a step, and clusters must form before that. So a route's leaf is valid as long as its CA, and it is verified
// at a time within that. Each start makes a new leaf, which never leaves memory, and who has the secret can make
// another: it is a leaf's key, not its date, that an attacker would need.
var validFrom = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

const caValidity = 200 * 365 * 24 * time.Hour

// Clients look at the dates with a clock of their own, and some refuse certificates of more than 825 days.
const (
	clientLeafValidity = 800 * 24 * time.Hour
	clientLeafRenewed  = 24 * time.Hour
)

func CheckSecrets(secrets [][]byte) error {
	if len(secrets) == 0 || len(secrets) > 2 {
		return fmt.Errorf("cluster.secret_file: needs one secret, or two while it is changed, not %d", len(secrets))
	}
	for i, s := range secrets {
		if len(s) != secretBytes {
			return fmt.Errorf("cluster.secret_file: secret %d has %d bytes, not %d (64 hex characters)", i+1, len(s),
				secretBytes)
		}
	}
	return nil
}

// RouteTLS is the TLS config of the cluster listener and of the routes we make: present a leaf of the first secret,
// accept leaves of any.
//
// To change the secret without a stop, restart the nodes one by one, three times round: with [old, new], so that all
// accept the new one; with [new, old], so that all present it; with [new].
func RouteTLS(secrets [][]byte, now func() time.Time) (*tls.Config, error) {
	if err := CheckSecrets(secrets); err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	var own Authority
	for i, s := range secrets {
		ca, err := NewAuthority(s, RouteAuthority)
		if err != nil {
			return nil, err
		}
		pool.AddCert(ca.cert)
		if i == 0 {
			own = ca
		}
	}
	leaf, err := NewLeaf(own, RouteLeaf())
	if err != nil {
		return nil, fmt.Errorf("make this node's certificate: %w", err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: routeName,
		RootCAs:    pool, ClientCAs: pool,
		ClientAuth:           tls.RequireAndVerifyClientCert,
		Time:                 within(now, validFrom.Add(time.Hour), own.cert.NotAfter.Add(-time.Hour)),
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return leaf, nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return leaf, nil },
		// A resumed session would skip the look at the certificate.
		SessionTicketsDisabled: true,
	}, nil
}

// within is a clock that shows no time before first or after last: with a clock at 1970 even the CA would not be valid
// yet.
func within(now func() time.Time, first, last time.Time) func() time.Time {
	return func() time.Time {
		switch t := now(); {
		case t.Before(first):
			return first
		case t.After(last):
			return last
		default:
			return t
		}
	}
}

// Authority is a CA of one secret.
type Authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// Purpose keeps authorities of one secret apart: a certificate of one must be worth nothing where the other is trusted.
type Purpose struct {
	label string // in the key's derivation: changing it changes the key
	name  string // subject of the CA's certificate
}

var (
	// RouteAuthority signs what opens a route, and with it everything.
	RouteAuthority = Purpose{label: "leasehold route CA key v1", name: "leasehold cluster CA"}
	// ClientAuthority signs what clients see. They are given its certificate.
	ClientAuthority = Purpose{label: "leasehold client CA key v1", name: "leasehold client CA"}
)

// NewAuthority derives a CA, the same on every node to the last byte, so that operators can compare what they have.
func NewAuthority(secret []byte, p Purpose) (Authority, error) {
	key, err := deriveKey(secret, p.label)
	if err != nil {
		return Authority{}, fmt.Errorf("derive the key of the %s: %w", p.name, err)
	}
	public, err := key.PublicKey.Bytes()
	if err != nil {
		return Authority{}, err
	}
	id := sha256.Sum256(public)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: p.name}, SubjectKeyId: id[:20],
		NotBefore: validFrom, NotAfter: validFrom.Add(caValidity),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	cert, err := signCertificate(template, template, &key.PublicKey, deterministicSigner{key})
	return Authority{key: key, cert: cert}, err
}

// deterministicSigner makes the same signature of the same digest every time (RFC 6979).
type deterministicSigner struct{ *ecdsa.PrivateKey }

func (s deterministicSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.PrivateKey.Sign(nil, digest, opts)
}

// deriveKey maps the secret to a P-256 private key: HKDF-SHA-256 output is taken as the key if it lies in the curve's
// range, which it nearly always does, else the next output is tried.
func deriveKey(secret []byte, label string) (*ecdsa.PrivateKey, error) {
	for attempt := range 16 {
		raw, err := hkdf.Key(sha256.New, secret, nil, fmt.Sprintf("%s %d", label, attempt), 32)
		if err != nil {
			return nil, err
		}
		if key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw); err == nil {
			return key, nil
		}
	}
	return nil, errors.New("no derived number is a P-256 key")
}

func signCertificate(template, parent *x509.Certificate, public *ecdsa.PublicKey,
	key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// leafCache makes a certificate for clients and replaces it daily.
type leafCache struct {
	make func(now time.Time) (*tls.Certificate, error)
	now  func() time.Time

	mu   sync.Mutex
	made time.Time // when cert was made, by now()
	cert *tls.Certificate
}

func (k *leafCache) leaf() (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	// By the wall clock alone: the monotonic one takes no part in a step, and the leaf would stay that of a wrong year. A
	// clock that was set back makes the age negative; the leaf is then remade as well, which costs nothing.
	now := k.now().Round(0)
	if age := now.Sub(k.made); k.cert != nil && age >= 0 && age < clientLeafRenewed {
		return k.cert, nil
	}
	cert, err := k.make(now)
	if err != nil {
		return nil, fmt.Errorf("make this node's certificate: %w", err)
	}
	k.cert, k.made = cert, now
	return cert, nil
}

// RouteLeaf is for both ends of a route: every node is server and client.
func RouteLeaf() *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: routeName}, DNSNames: []string{routeName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// NewLeaf makes a fresh key and signs it under the template's names and usages, for as long as the CA is valid unless
// the template says otherwise.
func NewLeaf(ca Authority, template *x509.Certificate) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.NotBefore = validFrom
	if template.NotAfter.IsZero() {
		template.NotAfter = ca.cert.NotAfter
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	leaf, err := signCertificate(template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}
