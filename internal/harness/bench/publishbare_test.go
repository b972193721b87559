//go:build bench

package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/bytesize"
	"leasehold/internal/harness/testcluster"
	"leasehold/partitioner/stream"
)

// bareOptions are what the bare servers have that they do not need.
type bareOptions struct {
	routeTLS bool // Mutual TLS between the servers.
	// Publishers are in an account without JetStream, which imports the topic's subject from the stream's account.
	accounts   bool
	discardOld bool // A full stream deletes its oldest messages instead of refusing new ones.
}

// bareCluster is three processes of nats-server, the version that Leasehold embeds, with the settings that the stream's
// safety needs and all else as it comes.
type bareCluster struct {
	t       *testing.T
	o       bareOptions
	dir     string
	clients []int // Ports.
	routes  []int
	js      jetstream.JetStream // Of the stream's account.
}

func bareKind(o bareOptions) func(t *testing.T) *publishRig {
	return func(t *testing.T) *publishRig {
		t.Helper()
		free := testcluster.FreePorts(t, 6)
		b := &bareCluster{t: t, o: o, dir: t.TempDir(), clients: free[:3], routes: free[3:]}
		r := &publishRig{leader: b.streamLeader, settle: func() {}}
		if o.routeTLS {
			b.makeCertificate()
		}
		for i, port := range b.clients {
			r.pids, r.urls = append(r.pids, b.start(i)), append(r.urls, fmt.Sprintf("nats://127.0.0.1:%d", port))
		}
		b.connect()
		b.makeStream()
		return r
	}
}

func (b *bareCluster) start(i int) (pid int) {
	b.t.Helper()
	file := filepath.Join(b.dir, fmt.Sprintf("n%d.conf", i+1))
	if err := os.WriteFile(file, []byte(b.config(i)), 0o600); err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command(testcluster.Build(b.t, "nats-server", "github.com/nats-io/nats-server/v2"), "-c", file)
	p, err := testcluster.StartProcess(cmd)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		p.Kill()
		if b.t.Failed() {
			log, _ := os.ReadFile(b.logFile(i))
			b.t.Logf("log of n%d, its end:\n%s", i+1, log[max(0, len(log)-4096):])
		}
	})
	return cmd.Process.Pid
}

func (b *bareCluster) logFile(i int) string { return filepath.Join(b.dir, fmt.Sprintf("n%d.log", i+1)) }

func (b *bareCluster) config(i int) string {
	var routes []string
	for _, port := range b.routes {
		routes = append(routes, fmt.Sprintf("nats-route://127.0.0.1:%d", port))
	}
	routeTLS, accounts := "", ""
	if b.o.routeTLS {
		routeTLS = fmt.Sprintf("tls: { cert_file: %q, key_file: %q, ca_file: %q, verify: true, timeout: 5 }", b.certFile(),
			b.keyFile(), b.certFile())
	}
	if b.o.accounts {
		accounts = bareAccounts
	}
	return fmt.Sprintf(`
server_name: n%d
listen: "127.0.0.1:%d"
log_file: %q
jetstream: { store_dir: %q, max_mem: 256MB, max_file: 8GB, sync_interval: always }
cluster: { name: bare, listen: "127.0.0.1:%d", routes: [%s], %s }
%s`, i+1, b.clients[i], b.logFile(i), filepath.Join(b.dir, fmt.Sprintf("n%d", i+1)),
		b.routes[i], strings.Join(routes, ", "), routeTLS, accounts)
}

// Clients without credentials become local.
var bareAccounts = fmt.Sprintf(`
accounts: {
  TOPICS: { jetstream: enabled, users: [{ user: topics, password: topics }],
    exports: [{ service: %[1]q, threshold: 30s }] }
  LOCAL: {
    users: [{ user: local, password: local,
      permissions: { publish: { allow: [%[1]q] }, subscribe: { allow: ["_INBOX.>"] } } }]
    imports: [{ service: { account: TOPICS, subject: %[1]q } }]
  }
  SYS: {}
}
system_account: SYS
no_auth_user: local
`, publishTopic.Subject)

func (b *bareCluster) connect() {
	b.t.Helper()
	var options []nats.Option
	if b.o.accounts {
		options = append(options, nats.UserInfo("topics", "topics"))
	}
	var nc *nats.Conn
	testcluster.Eventually(b.t, testcluster.StartLimit, func() (err error) {
		nc, err = nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", b.clients[0]), options...)
		return err
	})
	b.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		b.t.Fatal(err)
	}
	b.js = js
}

func (b *bareCluster) makeStream() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testcluster.StartLimit)
	defer cancel()
	stream, err := stream.Ensure(ctx, b.js, publishTopic, stream.Options{Replicas: 3, MaxPayload: bytesize.MiB})
	if err != nil {
		b.t.Fatal(err)
	}
	if !b.o.discardOld {
		return
	}
	config := stream.CachedInfo().Config
	config.Discard = jetstream.DiscardOld
	if _, err := b.js.UpdateStream(ctx, config); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bareCluster) certFile() string { return filepath.Join(b.dir, "route.pem") }
func (b *bareCluster) keyFile() string  { return filepath.Join(b.dir, "route.key") }

// makeCertificate makes one for all three, which signs itself, of the kind of key that Leasehold's have.
func (b *bareCluster) makeCertificate() {
	b.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bare"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		b.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{b.certFile(): {Type: "CERTIFICATE", Bytes: cert},
		b.keyFile(): {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
}
