// Package brokertest starts single brokers for the tests of partitioner and its rooms.
package brokertest

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
)

// Broker is a single nats-server that can be stopped and started again on the same port and data.
type Broker struct {
	t    testing.TB
	dir  string
	port int
	conf string
	srv  *server.Server
}

// Start starts a broker with this addition to its config, and stops it when the test ends.
func Start(t testing.TB, conf string) *Broker {
	t.Helper()
	b := &Broker{t: t, dir: t.TempDir(), port: -1, conf: conf}
	b.Start()
	t.Cleanup(b.Stop)
	return b
}

// Start starts it again, on the same port and data.
func (b *Broker) Start() {
	b.t.Helper()
	srv, err := Run(b.dir, b.port, b.conf)
	if err != nil {
		b.t.Fatal(err)
	}
	b.srv, b.port = srv, srv.Addr().(*net.TCPAddr).Port
}

// Run starts a server with JetStream on a port of 127.0.0.1; -1 means any. The caller shuts it down.
func Run(dir string, port int, conf string) (*server.Server, error) {
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

// Main runs the tests, or the broker that StartProcess wants. Call it in TestMain of packages that use StartProcess.
func Main(m *testing.M) {
	if dir := os.Getenv(brokerDirEnv); dir != "" {
		port, _ := strconv.Atoi(os.Getenv(brokerPortEnv))
		srv, err := Run(dir, port, "")
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("PORT", srv.Addr().(*net.TCPAddr).Port)
		select {}
	}
	os.Exit(m.Run())
}

// Process is a broker in a process of its own: start and kill -9, on the same port and data.
type Process struct {
	Broker
	cmd *exec.Cmd
}

// StartProcess starts a broker process, and kills it when the test ends. The package's TestMain must call Main.
func StartProcess(t testing.TB) *Process {
	t.Helper()
	b := &Process{Broker: Broker{t: t, dir: t.TempDir(), port: -1}}
	b.Start()
	t.Cleanup(b.Kill)
	return b
}

// Start starts it again, on the same port and data.
func (b *Process) Start() {
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

// Kill ends it with SIGKILL.
func (b *Process) Kill() {
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait()
}

// Stop shuts it down.
func (b *Broker) Stop() {
	b.srv.Shutdown()
	b.srv.WaitForShutdown()
}

// URL is where clients connect.
func (b *Broker) URL() string { return "nats://127.0.0.1:" + strconv.Itoa(b.port) }

// Connect connects a client, which is closed when the test ends.
func (b *Broker) Connect(opts ...nats.Option) *nats.Conn {
	b.t.Helper()
	opts = append([]nats.Option{nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.MaxReconnects(-1), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})}, opts...)
	nc, err := nats.Connect(b.URL(), opts...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(nc.Close)
	return nc
}

// Answer takes the place of a topic: f gets what is published to subject from now on. The broker knows of it before
// Answer returns, or a first publish over another connection could find nobody.
func (b *Broker) Answer(subject string, f nats.MsgHandler) {
	b.t.Helper()
	nc := b.Connect()
	if _, err := nc.Subscribe(subject, f); err != nil {
		b.t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		b.t.Fatal(err)
	}
}

// JetStream is a JetStream client on a connection.
func JetStream(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// Context ends after a minute, or with the test.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// Eventually calls f until it returns nil. After limit the test fails with its last error.
func Eventually(t testing.TB, limit time.Duration, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("after %v: %v", limit, err)
}
