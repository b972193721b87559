package attack

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"leasehold/internal/harness/testcluster"
)

// destinations are subjects to which a trace event of the broker, sent with its rights, would do harm.
var destinations = []string{
	"$KV.leasehold.session.n1", "$KV.leasehold.session.n2", "$KV.leasehold.lease.events.00000", "$KV.leasehold.cluster",
	"$KV.leasehold.topic.events",
	"$KV.leasehold.group.events", "$JS.API.STREAM.PURGE.events", "dlq.events.0.x.k.1", "plant.a.b",
	"leasehold.serve.asked",
}

// sessionKey is where a smuggled header would do most harm at once.
const sessionKey = "$KV.leasehold.session.n1"

// smuggledHeaders: a header that the gate and the broker read differently (C1).
func (a *arena) smuggledHeaders() {
	for _, d := range destinations {
		a.send(probe{"line feed, trace to " + d, hpub("events.k", block("X: a\nNats-Trace-Dest: "+d), "200"), refused})
	}
	const trace = "Nats-Trace-Dest: " + sessionKey
	for _, p := range []struct{ name, block, want string }{
		{"plain", block(trace), ""},
		{"lower case", block("nats-trace-dest: " + sessionKey), ""},
		{"upper case", block("NATS-TRACE-DEST: " + sessionKey), ""},
		{"carriage return", block("X: a\r" + trace), ""},
		{"LF CR", block("X: a\n\r" + trace), ""},
		{"folded by a blank", block("X: a", " "+trace), ""},
		{"folded by a tab", block("X: a", "\t"+trace), ""},
		{"folded by LF and a blank", block("X: a\n " + trace), ""},
		{"NUL", block("X: a\x00" + trace), ""},
		{"vertical tab", block("X: a\v" + trace), ""},
		{"form feed", block("X: a\f" + trace), ""},
		{"blank before the colon", block("Nats-Trace-Dest : " + sessionKey), ""},
		{"tab before the colon", block("Nats-Trace-Dest\t: " + sessionKey), ""},
		{"no CR at all", "NATS/1.0\nX: a\n" + trace + "\n\n", ""},
		{"two blocks", block("X: a") + block(trace), ""},
		{"behind the empty line", block("X: a") + trace + "\r\n\r\n", ""},
		{"no empty line", "NATS/1.0\r\n" + trace + "\r\n", ""},
		{"status in the first line", "NATS/1.0 100 x\r\n" + trace + "\r\n\r\n", ""},
		{"in the first line", "NATS/1.0\nNats-Trace-Dest: " + sessionKey + "\r\n\r\n", ""},
		{"another version", "NATS/1.1\r\n" + trace + "\r\n\r\n", ""},
		{"name with a LF", block("X\n" + trace), ""},
		{"byte order mark before the name", block("\ufeff" + trace), ""},
		{"trace only", block(trace, "Nats-Trace-Only: true"), ""},
		{"id twice", block("Nats-Msg-Id: a", "nats-msg-id: b"), ""},
		{"roll-up", block("Nats-Rollup: all"), ""},
		{"expected id", block("Nats-Expected-Last-Msg-Id: x"), ""},
		{"schedule", block("Nats-Schedule: @every 1s", "Nats-Schedule-Target: plant.a.b"), ""},
		{"time to live", block("Nats-TTL: 1"), ""},
		{"line separator U+2028, a value", block("X: a\u2028" + trace), stored},
		{"next line U+0085, a value", block("X: a\u0085" + trace), stored},
		{"sampled traceparent, a value", block("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
			stored},
		{"in the payload", block("X: a"), stored},
	} {
		payload := "200"
		if p.name == "in the payload" {
			payload += "\r\nNATS/1.0\r\n" + trace + "\r\n\r\n"
		}
		a.send(probe{p.name, hpub("events.k", p.block, payload), cmp.Or(p.want, refused)})
	}
}

// smuggledOverHTTP: the same by what becomes headers of a message that is published over HTTP.
func (a *arena) smuggledOverHTTP() {
	const trace = "Nats-Trace-Dest: " + sessionKey
	const event = "Content-Type: application/cloudevents+json"
	sent := func(name, answered, want string) { a.note(name, answered, want) }
	// Go reads it as another header, which is not kept.
	sent("header with LF", a.post("events/messages?key=k", "200", "ce-x: a\n"+trace), `^HTTP (4|200)`)
	sent("header folded", a.post("events/messages?key=k", "200", "Content-Type: text/plain\r\n "+trace), `^HTTP (4|200)`)
	sent("header with CR", a.post("events/messages?key=k", "200", "Idempotency-Key: a\r"+trace), httpRefused)
	sent("header with NUL", a.post("events/messages?key=k", "200", "Idempotency-Key: a\x00b"), httpRefused)
	sent("the header itself", a.post("events/messages?key=k", "200", trace), httpStored) // Not one of those that are kept.
	sent("percent-encoded LF in a ce- header", a.post("events/messages?key=k", "200",
		"ce-specversion: 1.0", "ce-id: smuggled-1", "ce-source: /s", "ce-type: t", "ce-x: a%0A"+trace), `^HTTP (4|200)`)
	sent("event with LF in an attribute", a.post("events/messages?key=k",
		`{"specversion":"1.0","id":"smuggled-2","source":"/s","type":"t","x":"a\n`+trace+`","data":200}`, event),
		`^HTTP (4|200)`)
	sent("event with LF in an attribute's name", a.post("events/messages?key=k",
		`{"specversion":"1.0","id":"smuggled-3","source":"/s","type":"t","x\nnats-trace-dest":"a","data":200}`, event),
		httpRefused)
	sent("event with LF in its content type", a.post("events/messages?key=k",
		`{"specversion":"1.0","id":"smuggled-4","source":"/s","type":"t","datacontenttype":"a\n`+trace+`","data":"200"}`,
		event), httpRefused)
	sent("line with LF in its id", a.post("events/messages?key=k&id_field=id", `{"id":"a\n`+trace+`"}`+"\n",
		"Content-Type: application/x-ndjson"), httpRefused)
	sent("line with LF in its key", a.post("events/messages?key_field=id", `{"id":"a\n`+trace+`"}`+"\n",
		"Content-Type: application/x-ndjson"), httpStored)
	// Encoded in the subject.
	sent("key with CR LF", a.post("events/messages?key=a%0D%0APUB%20events.k", "200"), httpStored)
	sent("traceparent with CR", a.post("events/messages?key=k", "200", "traceparent: a\rb"), httpRefused)
}

// smuggledByService: the same in a service's answer to a request.
func (a *arena) smuggledByService() {
	w, err := a.dial("")
	if err != nil {
		a.T.Fatal(err)
	}
	defer w.close()
	w.say(`CONNECT {"headers":true,"verbose":false,"user":"service","pass":"service-password"}` +
		"\r\nSUB leasehold.serve.asked q 1\r\nPING\r\n")
	a.note("a service logs in", w.hear(true), "^pong")
	const trace = "Nats-Trace-Dest: " + sessionKey
	blocks := []struct{ name, block string }{
		{"line feed", block("X: a\n" + trace)}, {"plain", block(trace)},
		{"folded", block("Nats-Service-Error: a", " "+trace)},
		{"carriage return", block("Nats-Service-Error: a\r" + trace)}, {"two blocks", block("X: a") + block(trace)},
		{"expected sequence", block("Nats-Expected-Last-Sequence: 1")},
	}
	for i := range blocks {
		a.send(probe{"a message for the service", pub(fmt.Sprintf("asked.k%d", i), "x"), stored})
	}
	for _, b := range blocks {
		reply, err := w.request()
		if err != nil {
			a.T.Fatalf("wait for a request: %v", err)
		}
		w.say(fmt.Sprintf("HPUB %s %d %d\r\n%sx\r\n", reply, len(b.block), len(b.block)+1, b.block))
		a.note("answer: "+b.name, w.hearError(), "^-ERR")
		w.say(fmt.Sprintf("PUB %s 0\r\n\r\n", reply)) // A request is answered once.
		a.note("second answer", w.hearError(), "^-ERR")
	}
	go w.serve()
	a.WaitDrained(testcluster.MoveLimit, servedTopic)
}

// request waits for a request and returns where its answer goes.
func (w *wire) request() (reply string, err error) {
	for {
		line, err := w.in.ReadString('\n')
		if err != nil {
			return "", err
		}
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasSuffix(fields[0], "MSG") {
			w.message(fields)
			return fields[3], nil
		}
	}
}

// hearError is hear for who gets requests meanwhile.
func (w *wire) hearError() string {
	for {
		if heard := w.hear(false); !strings.HasPrefix(heard, "message") && !strings.HasPrefix(heard, "headers") {
			return heard
		}
	}
}

// serve answers requests as it should, until the connection ends.
func (w *wire) serve() {
	_ = w.conn.SetDeadline(time.Time{}) // Fails only if it is closed.
	for {
		reply, err := w.request()
		if err != nil {
			return
		}
		w.say(fmt.Sprintf("PUB %s 0\r\n\r\n", reply))
	}
}
