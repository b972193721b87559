package wire

import "testing"

// BenchmarkParse is what the ingress reads of a published message: its line, with a header and a reply.
func BenchmarkParse(b *testing.B) {
	line := []byte("HPUB orders.c-17 _INBOX.aaaaaaaaaaaaaaaaaaaaaa.00000042 48 304")
	b.ReportAllocs()
	for b.Loop() {
		var fields [MaxFields][]byte
		n := Split(line, &fields)
		header, headerOK := Size(fields[3])
		total, totalOK := Size(fields[4])
		if n != 5 || Operation(fields[0]) != "HPUB" || !headerOK || !totalOK || header != 48 || total != 304 {
			b.Fatalf("%d fields: %q", n, fields)
		}
	}
}

// BenchmarkAppendMessage is what the ingress writes for a message to a subscriber.
func BenchmarkAppendMessage(b *testing.B) {
	subject, reply, data := []byte("leasehold.serve.billing"), []byte("_INBOX.aaaaaaaaaaaaaaaaaaaaaa.00000042"),
		make([]byte, 256)
	m := Message{Header: []byte("NATS/1.0\r\nNats-Msg-Id: aaaaaaaaaaaaaaaaaaaaaa\r\n\r\n"), Data: data}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = AppendMessage(out[:0], subject, "1", reply, m, true)
	}
}
