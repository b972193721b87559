package cli

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"leasehold/internal/api"
	"leasehold/internal/bytesize"
	"leasehold/internal/config"
	"leasehold/partitioner"
	"leasehold/partitioner/stream"
	"leasehold/server"
	"leasehold/server/access"
	"leasehold/server/servertest"

	"github.com/nats-io/nats.go/jetstream"
)

func TestUserHashMakesWhatAPasswordFileHolds(t *testing.T) {
	r := runWith(t, "press-password\n", "user", "hash")
	r.want(t, exitOK)
	if _, err := access.ParsePasswordHash(r.out); err != nil || strings.Contains(r.out, "press-password") {
		t.Errorf("%q: %v", r.out, err)
	}
	runWith(t, "short\n", "user", "hash").want(t, exitUsage, "8 to 72")
	runWith(t, strings.Repeat("x", 73), "user", "hash").want(t, exitUsage, "8 to 72")
}

func TestUserNKeyKeepsTheSeedToItself(t *testing.T) {
	seed := filepath.Join(t.TempDir(), "scanner.nk")
	r := run(t, "user", "nkey", "--seed-file", seed)
	r.want(t, exitOK)
	info, err := os.Stat(seed)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("seed file: %v, %v", info, err)
	}
	secret, err := os.ReadFile(seed)
	if err != nil || len(secret) < 50 {
		t.Fatalf("the seed has %d bytes, %v", len(secret), err)
	}
	if public := strings.TrimSpace(r.out); len(public) != 56 || public[0] != 'U' ||
		strings.Contains(r.out+r.err, strings.TrimSpace(string(secret))) {
		t.Errorf("printed %q and %q", r.out, r.err)
	}
	run(t, "user", "nkey", "--seed-file", seed).want(t, exitFailed, "exists already")
}

func TestUserTokenMakesWhatATokenFileHolds(t *testing.T) {
	dir := t.TempDir()
	r := run(t, "user", "token")
	r.want(t, exitOK)
	writeFile(t, filepath.Join(dir, "token"), r.out)
	c, err := config.Load(writeFile(t, filepath.Join(dir, "c.toml"),
		"[node]\nname = \"n1\"\n[http]\nlisten = \"0.0.0.0:8222\"\ntoken_file = \"token\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if token, err := c.ReadToken(); err != nil || len(token.Text) < 32 || len(token.Warnings) != 0 {
		t.Errorf("%v: %v", token, err)
	}
}

func TestStatusShowsItsToken(t *testing.T) {
	const token = "0123456789abcdef0123456789abcdef"
	s, err := api.New(api.Options{Listen: "127.0.0.1:0", Token: token, Source: &fakeSource{status: healthy()}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	t.Cleanup(func() { <-done })
	file := writeFile(t, filepath.Join(t.TempDir(), "token"), token+"\n")
	run(t, "status", "--addr", s.Addr(), "--token-file", file).want(t, exitOK, "OK:")
	run(t, "status", "--addr", s.Addr()).want(t, exitNotAllowed, "--token-file")
	t.Setenv(tokenVariable, file)
	run(t, "status", "--addr", s.Addr()).want(t, exitOK, "OK:")
}

// open is a broker that other machines can reach, over TLS, with the topic "orders" and what its users hold.
type open struct {
	addr, ca, seed, password, config string
}

func openBroker(t *testing.T) open {
	t.Helper()
	dir := t.TempDir()
	o := open{
		seed: filepath.Join(dir, "scanner.nk"), password: writeFile(t, filepath.Join(dir, "press.password"),
			"press-password\n"),
		config: writeFile(t, filepath.Join(dir, "c.toml"),
			"[node]\nname = \"n1\"\n[server]\ntls = { mode = \"cluster-ca\" }\n[cluster]\nsecret_file = \"secret\"\n"),
	}
	hash := runWith(t, "press-password", "user", "hash").out
	nkey := strings.TrimSpace(run(t, "user", "nkey", "--seed-file", o.seed).out)
	writeFile(t, filepath.Join(dir, "press.hash"), hash)
	writeFile(t, filepath.Join(dir, "secret"), config.NewSecret())
	ca := run(t, "tls", "ca", "--config", o.config)
	ca.want(t, exitOK, "BEGIN CERTIFICATE")
	o.ca = writeFile(t, filepath.Join(dir, "ca.pem"), ca.out)

	opt := servertest.SingleOptions(t)
	c, err := config.Load(o.config)
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := c.ReadSecrets()
	if err != nil {
		t.Fatal(err)
	}
	opt.Listen, opt.TLS, opt.Secrets = "0.0.0.0:0", c.Server.TLS, secrets.Keys
	opt.Users = []access.User{
		{Name: "press", PasswordHash: strings.TrimSpace(hash), Publish: []string{"orders.*"}},
		{Name: "scanner", NKey: nkey, Publish: []string{"other.*"}},
	}
	n := servertest.Start(t, opt)
	n.WaitReady(t)
	for _, name := range []string{"orders", "other"} {
		makeTopic(t, n.Server, name)
	}
	_, port, err := net.SplitHostPort(n.ClientAddr())
	if err != nil {
		t.Fatal(err)
	}
	o.addr = "127.0.0.1:" + port
	return o
}

func makeTopic(t *testing.T, s *server.Server, name string) {
	t.Helper()
	nc, err := s.Conn("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	topic := partitioner.Topic{Name: name, Partitions: 4, MaxBytes: bytesize.MiB}.WithDefaults()
	if _, err := stream.Ensure(t.Context(), js, topic,
		stream.Options{Replicas: 1, MaxPayload: 64 * bytesize.KiB}); err != nil {
		t.Fatal(err)
	}
}

func TestPubAsAUserOfANodeWithoutAnAgentToAsk(t *testing.T) {
	o := openBroker(t)
	t.Setenv(addrVariable, "127.0.0.1:1") // no agent there
	pub := func(topic string, more ...string) ran {
		return run(t, append([]string{"pub", topic, "hello", "--key", "c-17", "--server", "nats://" + o.addr}, more...)...)
	}
	press := []string{"--user", "press", "--password-file", o.password}
	ca := []string{"--tls-ca", o.ca}
	pub("orders", append(press, ca...)...).want(t, exitOK, "stored 1")
	pub("orders", append(append(press, ca...), "--subject", "orders.*")...).want(t, exitOK, "stored 1")
	pub("other", "--nkey-file", o.seed, "--tls-ca", o.ca).want(t, exitOK, "stored 1")

	pub("other", append(press, ca...)...).want(t, exitFailed, "refused 1")
	pub("orders", "--nkey-file", o.seed, "--tls-ca", o.ca).want(t, exitFailed, "refused 1")
	pub("orders", ca...).want(t, exitNotAllowed, "--nkey-file")
	pub("orders", press...).want(t, exitNotAllowed, "leasehold tls ca")
	wrong := writeFile(t, filepath.Join(t.TempDir(), "wrong"), "not-the-password")
	pub("orders", "--user", "press", "--password-file", wrong, "--tls-ca", o.ca).want(t, exitNotAllowed, "log in")
	hash := filepath.Join(filepath.Dir(o.config), "press.hash")
	pub("orders", "--user", "press", "--password-file", hash, "--tls-ca", o.ca).want(t, exitUsage, "the password itself")
	pub("orders", "--user", "press", "--tls-ca", o.ca).want(t, exitUsage, "--password-file")
	pub("orders", "--password-file", o.password).want(t, exitUsage, "needs --user")
	pub("orders", "--nkey-file", o.password, "--tls-ca", o.ca).want(t, exitUsage, "nkey")
	pub("orders", "--subject", "a.*.b.*").want(t, exitUsage, "one, the key")
	pub("orders", "--tls-ca", o.config).want(t, exitUsage, "no certificate")
	run(t, "pub", "orders", "x", "--key", "a", "--subject", "orders.*").want(t, exitUsage, "--server")
}

// On the node itself the agent's word is taken for the CA, so that nothing more is needed.
func TestPubOnTheNodeTrustsWhatItsAgentSays(t *testing.T) {
	o := openBroker(t)
	ca, err := os.ReadFile(o.ca)
	if err != nil {
		t.Fatal(err)
	}
	info := api.TopicInfo{Name: "orders", Partitions: 4, Subject: "orders.*", Key: []int{1}, DedupWindowMS: 120000,
		Server: strings.Replace(o.addr, "127.0.0.1", "[::]", 1), CA: string(ca)}
	addr := agent(t, &fakeSource{status: healthy(), topic: info})
	run(t, "pub", "orders", "x", "--key", "a", "--addr", addr, "--user", "press", "--password-file", o.password).
		want(t, exitOK, "stored 1")
}

func TestTLSCAIsTheSameEverywhereAndTwoWhileTheSecretChanges(t *testing.T) {
	dir := t.TempDir()
	conf := writeFile(t, filepath.Join(dir, "c.toml"), "[node]\nname = \"n1\"\n[cluster]\nsecret_file = \"secret\"\n")
	writeFile(t, filepath.Join(dir, "secret"), config.NewSecret()+config.NewSecret())
	r := run(t, "tls", "ca", "--config", conf)
	r.want(t, exitOK, "Note: no listener")
	if again := run(t, "tls", "ca", "--config", conf); again.out != r.out {
		t.Error("a second call prints another CA")
	}
	count := 0
	for block, rest := pem.Decode([]byte(r.out)); block != nil; block, rest = pem.Decode(rest) {
		if ca, err := x509.ParseCertificate(block.Bytes); err != nil || !ca.IsCA {
			t.Errorf("certificate %d: %v", count, err)
		}
		count++
	}
	if count != 2 {
		t.Errorf("%d certificates, want 2", count)
	}
	bare := writeFile(t, filepath.Join(dir, "bare.toml"), "[node]\nname = \"n1\"\n")
	run(t, "tls", "ca", "--config", bare).want(t, exitUsage, "no cluster.secret_file")
}

func TestAnyAddressOfANodeIsReachedWhereItsAgentWas(t *testing.T) {
	for _, c := range [][3]string{
		{"127.0.0.1:4222", "/x/leasehold.sock", "127.0.0.1:4222"}, {"10.0.0.1:4222", "10.0.0.1:8222", "10.0.0.1:4222"},
		{"[::]:4222", "/x/leasehold.sock", "127.0.0.1:4222"}, {"0.0.0.0:4222", "10.0.0.1:8222", "10.0.0.1:4222"},
		{"0.0.0.0:4222", "https://node.example:8222", "node.example:4222"},
		{"nats://127.0.0.1:4222", "x", "nats://127.0.0.1:4222"},
	} {
		if got := reachable(c[0], c[1]); got != c[2] {
			t.Errorf("%s asked at %s: %s, want %s", c[0], c[1], got, c[2])
		}
	}
}
