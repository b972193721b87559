package partitioner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"leasehold/internal/bytesize"
)

// broker is a single nats-server that can be stopped and started again on the same port and data.
type broker struct {
	t    testing.TB
	dir  string
	port int
	conf string
	srv  *server.Server
}

func startBroker(t testing.TB, conf string) *broker {
	t.Helper()
	b := &broker{t: t, dir: t.TempDir(), port: -1, conf: conf}
	b.start()
	t.Cleanup(b.stop)
	return b
}

func (b *broker) start() {
	b.t.Helper()
	srv, err := runServer(b.dir, b.port, b.conf)
	if err != nil {
		b.t.Fatal(err)
	}
	b.srv, b.port = srv, srv.Addr().(*net.TCPAddr).Port
}

func runServer(dir string, port int, conf string) (*server.Server, error) {
	opts := &server.Options{}
	if err := opts.ProcessConfigString("max_payload: 1114112\n" + conf); err != nil {
		return nil, err
	}
	opts.Host, opts.Port, opts.JetStream, opts.StoreDir, opts.NoSigs, opts.NoLog = "127.0.0.1", port, true, dir, true, true
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, err
	}
	srv.Start()
	if !srv.ReadyForConnections(10 * time.Second) {
		return nil, errors.New("server does not get ready")
	}
	return srv, nil
}

// Set for a process of this test binary that is to be a broker and no test, so that it can be killed.
const (
	brokerDirEnv  = "PARTITIONER_TEST_BROKER_DIR"
	brokerPortEnv = "PARTITIONER_TEST_BROKER_PORT"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(brokerDirEnv); dir != "" {
		port, _ := strconv.Atoi(os.Getenv(brokerPortEnv))
		srv, err := runServer(dir, port, "")
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("PORT", srv.Addr().(*net.TCPAddr).Port)
		select {}
	}
	os.Exit(m.Run())
}

// brokerProcess is a broker in a process of its own: start and kill -9, on the same port and data.
type brokerProcess struct {
	broker
	cmd *exec.Cmd
}

func startBrokerProcess(t testing.TB) *brokerProcess {
	t.Helper()
	b := &brokerProcess{broker: broker{t: t, dir: t.TempDir(), port: -1}}
	b.start()
	t.Cleanup(b.kill)
	return b
}

func (b *brokerProcess) start() {
	b.t.Helper()
	b.cmd = exec.Command(os.Args[0])
	b.cmd.Env = append(os.Environ(), brokerDirEnv+"="+b.dir, brokerPortEnv+"="+strconv.Itoa(b.port))
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	if _, err := fmt.Fscanf(out, "PORT %d\n", &b.port); err != nil {
		b.t.Fatalf("broker process says no port: %v", err)
	}
}

func (b *brokerProcess) kill() {
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait()
}

func (b *broker) stop() {
	b.srv.Shutdown()
	b.srv.WaitForShutdown()
}

func (b *broker) url() string { return "nats://127.0.0.1:" + strconv.Itoa(b.port) }

func (b *broker) connect(opts ...nats.Option) *nats.Conn {
	b.t.Helper()
	opts = append([]nats.Option{nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectJitter(0, 0), nats.MaxReconnects(-1),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})}, opts...)
	nc, err := nats.Connect(b.url(), opts...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(nc.Close)
	return nc
}

// answer stands in a topic's place: f gets what is published to subject from now on. The broker knows of it before answer
// returns, or a first publish over another connection could find nobody.
func (b *broker) answer(subject string, f nats.MsgHandler) {
	b.t.Helper()
	nc := b.connect()
	if _, err := nc.Subscribe(subject, f); err != nil {
		b.t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		b.t.Fatal(err)
	}
}

func newJetStream(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func orders() Topic {
	return Topic{Name: "orders", Partitions: 12, MaxBytes: 64 * bytesize.MiB}.WithDefaults()
}

func ensure(t testing.TB, js jetstream.JetStream, topic Topic) jetstream.Stream {
	t.Helper()
	s, err := EnsureStream(testContext(t), js, topic, StreamOptions{Replicas: 1, MaxPayload: 1 * bytesize.MiB})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t testing.TB, limit time.Duration, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("after %v: %v", limit, err)
}

// stored lists what a stream holds: the publishers' data by key, in stream order.
func stored(t testing.TB, js jetstream.JetStream, topic Topic) map[string][]string {
	t.Helper()
	cons, err := js.OrderedConsumer(testContext(t), topic.Name, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := js.Stream(testContext(t), topic.Name)
	if err != nil {
		t.Fatal(err)
	}
	byKey := map[string][]string{}
	for left := info.CachedInfo().State.Msgs; left > 0; left-- {
		m, err := cons.Next(jetstream.FetchMaxWait(5 * time.Second))
		if err != nil {
			t.Fatalf("with %d messages left: %v", left, err)
		}
		place, err := topic.Parse(m.Subject())
		if err != nil {
			t.Fatal(err)
		}
		byKey[place.Key] = append(byKey[place.Key], string(m.Data()))
	}
	return byKey
}
