package hostile

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
)

// kind is one way to attack.
type kind struct {
	name string
	slow bool // byte by byte
	data func(*rand.Rand) []byte
}

// The kinds are the same for every port: a broker that is spoken to in HTTP is
// attacked, too.
var kinds = []kind{
	{name: "random bytes", data: func(r *rand.Rand) []byte { return noise(r, 1+r.IntN(64<<10)) }},
	{name: "random lines", data: randomLines},
	{name: "half a line", data: halfLine},
	{name: "slow loris", slow: true, data: slowLoris},
	{name: "giant header", data: giantHeader},
	{name: "expected message", data: func(r *rand.Rand) []byte {
		head := "NATS/1.0\r\nNats-Expected-Last-Msg-Id: " + pick(r, "none", "1", "") + "\r\n\r\n"
		return fmt.Appendf(nil, "CONNECT {\"headers\":true}\r\nHPUB bulk.k %d %d\r\n%s\r\nPING\r\n", len(head), len(head),
			head)
	}},
	{name: "giant line", data: func(r *rand.Rand) []byte {
		return []byte(pick(r, "GET /", "PUB ", "CONNECT {\"user\":\"", "INFO {\"server_id\":\"") +
			strings.Repeat("a", 64<<10+r.IntN(2<<20)))
	}},
	{name: "oversize frame", data: oversizeFrame},
	{name: "bad UTF-8", data: badText},
	{name: "TLS garbage", data: tlsGarbage},
	{name: "HTTP smuggling", data: smuggled},
	{name: "endless body", data: func(r *rand.Rand) []byte {
		head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", path(r), uint64(1)<<(30+r.IntN(34)))
		return append([]byte(head), noise(r, r.IntN(1<<20))...)
	}},
	{name: "deep JSON", data: deepJSON},
	{name: "NATS out of turn", data: natsTalk},
	{name: "route talk", data: routeTalk},
	{name: "many pings", data: func(r *rand.Rand) []byte {
		return []byte(strings.Repeat("PING\r\n", 1000+r.IntN(50_000)))
	}},
	{name: "nothing", data: func(*rand.Rand) []byte { return nil }},
}

// noise is n bytes of anything.
func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// path is one that an HTTP server of ours may look at twice.
func path(r *rand.Rand) string {
	return pick(r, "/", "/v1/status", "/metrics", "/readyz", "/v1/topics/bulk/messages", "/v1/requests",
		"/%2e%2e/%2e%2e/etc/passwd", "/v1/"+strings.Repeat("../", 200), "//////", "/%00", "*")
}

// length is one that no frame has.
func length(r *rand.Rand) string {
	return pick(r, "-1", "2147483647", "2147483648", "4294967296", "9223372036854775807", "9223372036854775808",
		"99999999999999999999999999", "1048577", "0x10", "1e9", "", " ", "00000000000000000000000000000000001")
}

func randomLines(r *rand.Rand) []byte {
	var b []byte
	for range 1 + r.IntN(200) {
		b = append(b, noise(r, r.IntN(100))...)
		b = append(b, "\r\n"...)
	}
	return b
}

// halfLine is the beginning of something valid.
func halfLine(r *rand.Rand) []byte {
	whole := pick(r, "CONNECT {\"verbose\":false,\"user\":\"a\",\"pass\":\"b\"}\r\n", "PUB bulk.k 5\r\nhello\r\n",
		"SUB > 1\r\n", "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", "HPUB bulk.k 12 17\r\nNATS/1.0\r\n\r\nhello\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	return []byte(whole[:1+r.IntN(len(whole)-1)])
}

func slowLoris(r *rand.Rand) []byte {
	return []byte(pick(r, "GET / HTTP/1.1\r\nHost: x\r\n", "CONNECT {}\r\nPUB bulk.k 1000000\r\n",
		"\x16\x03\x01\x02\x00") + strings.Repeat("X-A: b\r\n", 100))
}

func giantHeader(r *rand.Rand) []byte {
	size := 64<<10 + r.IntN(2<<20)
	if r.IntN(2) == 0 {
		return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: x\r\nX-Big: %s\r\n\r\n", path(r), strings.Repeat("a", size))
	}
	head := "NATS/1.0\r\n" + strings.Repeat("Nats-Expected-Last-Sequence: 1\r\n", size/32) + "\r\n"
	return fmt.Appendf(nil, "CONNECT {\"headers\":true}\r\nHPUB bulk.k %d %d\r\n%s\r\n", len(head), len(head), head)
}

// oversizeFrame promises more than anybody may send, and sends a little of it.
func oversizeFrame(r *rand.Rand) []byte {
	frame := pick(r, "PUB bulk.k %s\r\n", "PUB bulk.k reply %s\r\n", "HPUB bulk.k 10 %s\r\n", "HPUB bulk.k %s 10\r\n",
		"RMSG $G bulk.k %s\r\n", "LMSG bulk.k %s\r\n", "HMSG $G a %s 10\r\n", "MSG a 1 %s\r\n")
	return append([]byte("CONNECT {\"headers\":true}\r\n"+fmt.Sprintf(frame, length(r))), noise(r, r.IntN(100_000))...)
}

func badText(r *rand.Rand) []byte {
	bad := pick(r, "\xff\xfe", "\xc3\x28", "\xed\xa0\x80", "\xf8\x88\x80\x80\x80", "\x00", "\xc0\xaf", "\u202e\ufeff")
	frame := pick(r, "CONNECT {\"user\":\"%[1]s\",\"pass\":\"%[1]s\",\"name\":\"%[1]s\"}\r\nPING\r\n",
		"PUB bulk.%[1]s 1\r\nx\r\n", "CONNECT {}\r\nSUB %[1]s 1\r\n",
		"GET /%[1]s HTTP/1.1\r\nHost: %[1]s\r\nAuthorization: Bearer %[1]s\r\n\r\n",
		"POST /v1/topics/%[1]s/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n%[1]s: a\r\n\r\n{}")
	return fmt.Appendf(nil, frame, bad)
}

// tlsGarbage looks like the first record of a handshake.
func tlsGarbage(r *rand.Rand) []byte {
	body := noise(r, 4+r.IntN(20_000))
	body[0] = pick[byte](r, 1, 1, 2, 11, 255) // ClientHello mostly
	record := []byte{22, 3, pick[byte](r, 0, 1, 3, 4, 255)}
	record = binary.BigEndian.AppendUint16(record, pick(r, uint16(min(len(body), 1<<14)), 0, 1, 0xffff))
	return append(record, body...)
}

// smuggled are requests whose end two readers would see at two places.
func smuggled(r *rand.Rand) []byte {
	hidden := "GET /v1/status HTTP/1.1\r\nHost: y\r\n\r\n"
	head := pick(r, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Content-Length: 5\r\nContent-Length: 50\r\n",
		"Transfer-Encoding: xchunked\r\nContent-Length: 3\r\n", "Transfer-Encoding : chunked\r\n",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
		"Content-Length: +5\r\n", "Content-Length: 5, 5\r\n", " Content-Length: 5\r\n",
		"X: a\r\n folded: b\r\nContent-Length: 5\r\n", "Host: z\r\n", "X: a\rContent-Length: 4\n")
	body := pick(r, "0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "ffffffffffffffff1\r\n", "-1\r\n",
		"5;"+strings.Repeat("x", 5000)+"\r\nhello\r\n", "0\n\n")
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n%s%s", path(r), head, body, hidden)
}

func deepJSON(r *rand.Rand) []byte {
	deep := strings.Repeat(pick(r, "[", "{\"a\":", "[{\"user\":["), 20_000)
	if r.IntN(2) == 0 {
		return []byte("CONNECT " + deep + "\r\n")
	}
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "+
		"%d\r\n\r\n%s", path(r), len(deep), deep)
}

// natsTalk is what a client may say, at a time or about things when it may not.
func natsTalk(r *rand.Rand) []byte {
	var b strings.Builder
	for range 1 + r.IntN(50) {
		b.WriteString(pick(r, "CONNECT {}\r\n",
			"CONNECT {\"user\":\"admin\",\"pass\":\"admin\",\"no_responders\":true,\"headers\":true}\r\n",
			"CONNECT {\"jwt\":\"a.b.c\",\"nkey\":\"U\",\"sig\":\"x\"}\r\n", "SUB > 1\r\n", "SUB $SYS.> 2\r\n", "SUB $KV.> 3\r\n",
			"UNSUB 1 99999999999999999999\r\n",
			"SUB "+strings.Repeat("a.", 3000)+"a 4\r\n", "PUB $KV.leasehold.session.n1 3\r\nbad\r\n",
			"PUB $JS.API.STREAM.DELETE.bulk 0\r\n\r\n",
			"PUB $JS.API.STREAM.PURGE.bulk in 0\r\n\r\n", "PUB $SYS.REQ.SERVER.PING 0\r\n\r\n", "PING\r\n", "PONG\r\n",
			"+OK\r\n", "-ERR 'go away'\r\n",
			"INFO {}\r\n", "PUB a..b 0\r\n\r\n", "PUB a.* 0\r\n\r\n", "\r\n\r\n", "ping\r\n", "SUB\ta\t1\r\n"))
	}
	return []byte(b.String())
}

// routeTalk is what only another broker says.
func routeTalk(r *rand.Rand) []byte {
	var b strings.Builder
	const info = `INFO {"server_id":"NAAAA","server_name":"n1","version":"2.15.2","cluster":"test","headers":true,` +
		`"jetstream":true,"gossip_mode":1,"connect_urls":["10.0.0.1:4222"],"ip":"nats-route://10.0.0.1:6222/"}` + "\r\n"
	const connect = `CONNECT {"echo":true,"cluster":"test","name":"n1","verbose":false,"server":"n1"}` + "\r\n"
	b.WriteString(pick(r, info, connect, ""))
	for range r.IntN(20) {
		b.WriteString(pick(r, "RS+ $G > \r\n", "RS+ $SYS $SYS.> \r\n", "RS- $G a\r\n", "A+ $SYS\r\n", "LS+ $G > q 1\r\n",
			"RMSG $SYS $NRG.AE.x 3\r\nbad\r\n", "RMSG $G $KV.leasehold.session.n1 3\r\nbad\r\n",
			"HMSG $G a 12 12\r\nNATS/1.0\r\n\r\n\r\n", "PING\r\n"))
	}
	return []byte(b.String())
}
