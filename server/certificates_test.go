package server_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/server/access"
	"leasehold/server/pki"
	"leasehold/server/servertest"
)

// Own certificates, and clients that must show one beside their password.
func TestOwnCertificatesAreCheckedBothWaysAndReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good, evil := newCA(t, "good"), newCA(t, "evil")
	later := time.Now().Add(time.Hour)
	good.issue(t, dir, "node", later)
	writePEM(t, filepath.Join(dir, "ca.pem"), "CERTIFICATE", good.cert.Raw)
	o := servertest.SingleOptions(t)
	o.Users = []access.User{{Name: "press", PasswordHash: mustHash(t, "press-password"), Publish: []string{"orders.*"}}}
	o.TLS = pki.TLSConfig{Mode: "files", CertFile: filepath.Join(dir, "node.pem"), KeyFile: filepath.Join(dir, "node.key"),
		CAFile: filepath.Join(dir, "ca.pem"), VerifyClients: true}
	n := servertest.Start(t, o)
	n.WaitReady(t)
	stream(t, n.Server, "orders", "orders.*")
	pool := x509.NewCertPool()
	pool.AddCert(good.cert)
	try := func(what, want string, certs ...tls.Certificate) attempt {
		return entry("press", "right password, "+what, n.ClientAddr(), want, nats.UserInfo("press", "press-password"),
			nats.Secure(&tls.Config{RootCAs: pool, Certificates: certs}))
	}
	tried(t, "Own certificates, verify_clients", []attempt{
		try("no certificate", "tls"),
		try("certificate of another CA", "tls", evil.issue(t, dir, "stranger", later)),
		try("certificate that has expired", "tls", good.issue(t, dir, "old", time.Now().Add(-time.Minute))),
		try("certificate of the right CA", allowed, good.issue(t, dir, "press", later)),
	})

	// Half-written files leave the old certificate in place; then the new one is taken, which is of a CA nobody trusts.
	mine := good.issue(t, dir, "press", later)
	write(t, filepath.Join(dir, "node.pem"), []byte("half"))
	tried(t, "While the certificate is being replaced", []attempt{try("certificate of the right CA", allowed, mine)})
	evil.issue(t, dir, "node", later)
	servertest.Eventually(t, 20*time.Second, func() error {
		err := try("", "", mine).try(t)
		if err == nil || !strings.Contains(err.Error(), "unknown authority") {
			return fmt.Errorf("new certificate is not shown yet: %v", err)
		}
		return nil
	})
	good.issue(t, dir, "node", time.Now().Add(-time.Minute))
	servertest.Eventually(t, 20*time.Second, func() error {
		err := try("", "", mine).try(t)
		if err == nil || !strings.Contains(err.Error(), "expired") {
			return fmt.Errorf("expired certificate of the node: %v", err)
		}
		return nil
	})
}

// While the secret is being changed, clients that trust both CAs get in all the time.
func TestClientsFollowAChangeOfTheSecret(t *testing.T) {
	t.Parallel()
	old, fresh := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	for i, secrets := range [][][]byte{{old}, {old, fresh}, {fresh, old}, {fresh}} {
		o := servertest.SingleOptions(t)
		o.TLS, o.Secrets, o.Users = pki.TLSConfig{Mode: "cluster-ca", Names: []string{"node.example"}}, secrets, nil
		n := servertest.Start(t, o)
		n.WaitReady(t)
		pool := clientPool(t, 1)
		if text, err := pki.ClientCA([][]byte{old, fresh}); err != nil || !pool.AppendCertsFromPEM(text) ||
			bytes.Count(text, []byte("BEGIN")) != 2 {
			t.Fatalf("ClientCA of two secrets: %s, %v", text, err)
		}
		for _, name := range []string{"", "localhost", "node.example"} {
			if err := entry("", "", n.ClientAddr(), "",
				nats.Secure(&tls.Config{RootCAs: pool, ServerName: name})).try(t); err != nil {
				t.Errorf("round %d, name %q: %v", i, name, err)
			}
		}
		_ = n.Stop()
	}
}

// testCA signs certificates for both ends.
type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t *testing.T, name string) testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return testCA{cert, key}
}

// issue writes NAME.pem and NAME.key and returns the pair.
func (ca testCA) issue(t *testing.T, dir, name string, until time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, name+".key"), "PRIVATE KEY", raw)
	writePEM(t, filepath.Join(dir, name+".pem"), "CERTIFICATE", der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func writePEM(t *testing.T, path, kind string, raw []byte) {
	t.Helper()
	write(t, path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}))
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
