package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/server/servertest"
)

// BenchmarkIngress publishes with 1,024 messages under way through the ingress to a stream in memory, and reads the
// answers.
func BenchmarkIngress(b *testing.B) {
	n := servertest.Start(b, servertest.SingleOptions(b))
	n.WaitReady(b)
	inside, err := n.Conn("test")
	if err != nil {
		b.Fatal(err)
	}
	defer inside.Close()
	js, err := jetstream.New(inside)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: "orders", Subjects: []string{"orders.*"},
		Storage: jetstream.MemoryStorage, MaxMsgs: 1000}); err != nil {
		b.Fatal(err)
	}
	conn, err := net.Dial("tcp", n.ClientAddr())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 64<<10)
	if _, err := in.ReadString('\n'); err != nil {
		b.Fatal(err)
	}
	const window = 1024
	header := "NATS/1.0\r\nNats-Msg-Id: aaaaaaaaaaaaaaaaaaaaaa\r\n\r\n"
	data := bytes.Repeat([]byte("x"), 256)
	var batch []byte
	for i := range window / 2 {
		batch = fmt.Appendf(batch, "HPUB orders.key-%d _INBOX.aaaaaaaaaaaaaaaaaaaaaa.%08d %d %d\r\n%s%s\r\n", i, i,
			len(header), len(header)+len(data), header, data)
	}
	if _, err := conn.Write([]byte("CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB _INBOX.aaaaaaaaaaaaaaaaaaaaaa.* " +
		"1\r\n")); err != nil {
		b.Fatal(err)
	}
	answers := func(n int) {
		for range n * 2 { // a line of the protocol, and one of JSON
			if _, err := in.ReadSlice('\n'); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	sent, got := 0, 0
	for sent < b.N {
		if _, err := conn.Write(batch); err != nil {
			b.Fatal(err)
		}
		if sent += window / 2; sent-got > window/2 {
			answers(window / 2)
			got += window / 2
		}
	}
	answers(sent - got)
}
