package attack

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"

	"leasehold/internal/harness/testcluster"
)

func ks(n int) string { return strings.Repeat("k", n) }

// quietly is a message without a reply subject.
func quietly(subject, payload string) string {
	return fmt.Sprintf("PUB %s %d\r\n%s\r\n", subject, len(payload), payload)
}

// replying is a message with this reply subject.
func replying(reply string) string { return fmt.Sprintf("PUB events.k %s 3\r\n200\r\n", reply) }

// longSubjects: lines that get longer than the broker takes on their way (C3, F1).
func (a *arena) longSubjects() {
	for range 3 {
		a.send(probe{"a line of 4,096 bytes", pub("events."+ks(4070), ""), refusedOrLost})
	}
	a.send(
		probe{"subject of 4,000 bytes", pub("events."+ks(3993), "200"), refused},
		probe{"subject of 1,025 bytes", pub("events."+ks(1018), "200"), refused},
		probe{"key of 513 bytes", pub("events."+ks(513), "200"), refused},
		probe{"key of 512 bytes", pub("events."+ks(512), "200"), stored},
		probe{"two tokens, 513 bytes with their dot", pub("plant."+ks(256)+"."+ks(256), "200"), refused},
		probe{"two tokens, 512 bytes with their dot", pub("plant."+ks(255)+"."+ks(256), "200"), stored},
		probe{"2,000 tokens", pub("events."+strings.Repeat("a.", 2000)+"a", "200"), `^(refused 4|-ERR|closed)`},
		probe{"reply of 4,000 bytes", replying(mailbox + ks(3986)), refusedOrLost},
		probe{"reply of 1,025 bytes", replying(mailbox + ks(1011)), refusedOrLost},
		probe{"reply of 1,024 bytes", replying(mailbox + ks(1010)), stored},
		probe{"reply to a lease", replying("$KV.leasehold.lease.events.00000"), "^-ERR"},
		probe{"reply to a purge", replying("$JS.API.STREAM.PURGE.events"), "^-ERR"},
		probe{"reply to a topic", replying("plant.a.b"), "^-ERR"},
		probe{"reply with a wildcard", replying(mailbox + "*"), "^-ERR"},
		probe{"reply with an empty token", replying(mailbox + ".a"), "^-ERR"},
		probe{"a subscription of 4,000 bytes", "SUB _INBOX." + ks(3980) + " 2\r\n", "^(-ERR|closed)"},
		probe{"a greeting of 5,000 bytes", fmt.Sprintf("CONNECT {\"name\":%q}\r\n", ks(5000)), "^(-ERR|closed)"},
	)
	for _, p := range []struct{ name, path, body, head string }{
		{"HTTP: subject of 4,070 bytes", "plant/messages?subject=plant." + ks(4070) + ".a", "200", ""},
		{"HTTP: subject whose key has 513 bytes", "plant/messages?subject=plant.a." + ks(511), "200", ""},
		{"HTTP: key of 4,000 bytes", "events/messages?key=" + ks(4000), "200", ""},
		{"HTTP: key of 513 bytes", "events/messages?key=" + ks(513), "200", ""},
		{"HTTP: key of 171 bytes, three times as long when encoded", "events/messages?key=" + strings.Repeat("%20", 171),
			"200", ""},
		{"HTTP: key of 4,000 bytes in a header", "events/messages", "200", "Leasehold-Key: " + ks(4000)},
		{"HTTP: key of 4,000 bytes in a line", "events/messages?key_field=k", `{"k":"` + ks(4000) + `"}` + "\n",
			"Content-Type: application/x-ndjson"},
		{"HTTP: event with a key of 4,000 bytes", "events/messages",
			`{"specversion":"1.0","id":"long-1","source":"/s","type":"t","partitionkey":"` + ks(4000) + `"}`,
			"Content-Type: application/cloudevents+json"},
	} {
		head := []string{p.head}
		if p.head == "" {
			head = nil
		}
		a.note(p.name, a.post(p.path, p.body, head...), httpRefused)
	}
	a.note("HTTP: a good message afterwards", a.post("plant/messages?subject=plant.b.a", "200"), httpStored)
	a.note("pub: key of 4,000 bytes", a.command("pub", events, "--key", ks(4000), "200"), "at most 512")
}

// command is what a command says that fails, or "done".
func (a *arena) command(args ...string) string {
	a.T.Helper()
	out, err := a.CLI(args...)
	if err == nil {
		return "done: " + string(out)
	}
	_, said, _ := strings.Cut(err.Error(), "exit status")
	return said
}

// floodOfIDs is how many messages with ids of 60,000 bytes are sent.
const floodOfIDs = 200

// longIDs: message ids, which the broker keeps in memory (H5).
func (a *arena) longIDs() {
	id := func(n int, name string) string { return block(name + ": " + unlike(n)) }
	a.send(
		probe{"id of 60,000 bytes", hpub("events.k", id(60_000, "Nats-Msg-Id"), "200"), refused},
		probe{"id of 30,000 bytes", hpub("events.k", id(30_000, "Nats-Msg-Id"), "200"), refused},
		probe{"id of 257 bytes", hpub("events.k", id(257, "Nats-Msg-Id"), "200"), refused},
		probe{"id of 257 bytes, name in lower case", hpub("events.k", id(257, "nats-msg-id"), "200"), refused},
		probe{"id of 256 bytes", hpub("events.k", id(256, "Nats-Msg-Id"), "200"), stored},
		probe{"id of 256 bytes, between blanks", hpub("events.k", block("Nats-Msg-Id:  "+unlike(256)+"  "), "200"), stored},
		probe{"id with a control character", hpub("events.k", block("Nats-Msg-Id: a\x1bb"), "200"), refused},
	)
	a.note(fmt.Sprintf("%d ids of 60,000 bytes", floodOfIDs**attackFlag),
		a.refusedAll(floodOfIDs**attackFlag, func() string {
			return hpub("events.k", id(60_000, "Nats-Msg-Id"), "200")
		}), "^all refused")
	ndjson := "Content-Type: application/x-ndjson"
	a.note("HTTP: id of 257 bytes", a.post("events/messages?key=k", "200", "Idempotency-Key: "+unlike(257)), httpRefused)
	a.note("HTTP: id of 40,000 bytes", a.post("events/messages?key=k", "200", "Idempotency-Key: "+unlike(40_000)),
		httpRefused)
	a.note("HTTP: id of 60,000 bytes in a line", a.post("events/messages?key=k&id_field=i", `{"i":"`+unlike(60_000)+`"}`+
		"\n", ndjson), httpRefused)
	a.note("HTTP: event with an id of 60,000 bytes", a.post("events/messages?key=k",
		`{"specversion":"1.0","id":"`+unlike(60_000)+`","source":"/s","type":"t","data":200}`,
		"Content-Type: application/cloudevents+json"), httpRefused)
	a.note("HTTP: event with an id of 1,000 bytes, hashed", a.post("events/messages?key=k",
		`{"specversion":"1.0","id":"`+unlike(1000)+`","source":"/s","type":"t","data":200}`,
		"Content-Type: application/cloudevents+json"), httpStored)
	a.note("pub: id of 257 bytes", a.command("pub", events, "--key", "k", "--id", unlike(257), "200"), "at most 256")
	a.note("pub: id of 60,000 bytes", a.command("pub", events, "--key", "k", "--id", unlike(60_000), "200"), "at most 256")
}

// unlike is a text of n bytes that no other call returns.
func unlike(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return base64.RawURLEncoding.EncodeToString(b)[:n]
}

// refusedAll sends so many messages over one connection and counts answers.
func (a *arena) refusedAll(n int, message func() string) string {
	w, err := a.dial("")
	if err != nil {
		return err.Error()
	}
	defer w.close()
	w.say(anonymous + subscribe)
	go func() {
		for range n {
			w.say(message())
		}
	}()
	for i := range n {
		if heard := w.hear(false); !strings.HasPrefix(heard, "refused 4") {
			return fmt.Sprintf("%d refused, then %s", i, heard)
		}
	}
	return "all refused"
}

// wildcards: subjects that are patterns, or belong to no partition (H6).
func (a *arena) wildcards() {
	for _, subject := range []string{
		"events.*", "events.>", "plant.*.b", "plant.a.*", "plant.a.>", "plant.>", "plant.*.*", "plant.>.b",
		"events.", "events..", "events..k", "plant.a.", "plant..b", "plant.a", "plant.a.b.c", "plant.a..b",
		"events.a\x00b", "events.a\x1bb", "events.a\x7f", "events.\xff", "events.caf\xe9", "events.\ufffd",
		"events.\xed\xa0\x80",
	} {
		a.send(probe{subject, pub(subject, "200"), refusedOrLost})
	}
	for _, subject := range []string{"*", ">", "*.k", "$JS.API.STREAM.PURGE.events", "$KV.leasehold.cluster", ".events.k",
		"events", "", "leasehold.answer.n1.x"} {
		a.send(probe{"not a topic's: " + subject, pub(subject, "200"), "^(-ERR|closed|refused 4)"})
	}
	a.send(
		probe{"a star within a token", pub("events.a*b", "200"), stored},
		probe{"a > within a token", pub("events.a>b", "200"), stored},
		probe{"pedantic, a wildcard", "CONNECT {\"pedantic\":true}\r\n" + pub("events.*", "200"), "^(-ERR|closed|refused 4)"},
	)
	for _, query := range []string{"subject=plant.*.a", "subject=plant.a.%3E", "subject=plant..a", "subject=plant.a",
		"subject=plant.a.b.c", "subject=events.k", "subject=plant.%FF.a", "subject=plant.a.%EF%BF%BD"} {
		a.note("HTTP: "+query, a.post("plant/messages?"+query, "200"), httpRefused)
	}
	a.note("HTTP: key=*, encoded", a.post("events/messages?key=*", "200"), httpStored)
	a.note("HTTP: key=>, encoded", a.post("events/messages?key=%3E", "200"), httpStored)
	a.note("pub: key *, encoded", a.command("pub", events, "--key", "*", "200"), "^done: stored 1")
	// All that was stored belongs to a partition, so nothing of it is passed over.
	for _, g := range []string{events, plant} {
		a.WaitDrained(testcluster.MoveLimit, g)
	}
	if log := a.node.Log(); strings.Contains(log, "belongs to no partition") {
		a.T.Errorf("%s has stored what nobody handles", a.mode)
	}
}

// malformed: messages that the gate once dropped without an answer (M8).
func (a *arena) malformed() {
	most := 1 << 20 // max_payload
	manyLines := make([]string, 3000)
	for i := range manyLines {
		manyLines[i] = "X:a"
	}
	growing := block(manyLines...)
	for _, p := range []struct{ name, block string }{
		{"blank in a name", block("a b: c")}, {"no name", block(": c")}, {"no colon", block("abc")},
		{"blank before the name", block(" a: c")},
		{"name of 257 bytes", block(ks(257) + ": c")}, {"name that is not ASCII", block("é: c")},
		{"name in brackets", block("(a): c")},
		{"no end", "NATS/1.0\r\na: b\r\n"}, {"no first line", "a: b\r\n\r\n"}, {"nothing", ""}, {"only a line end", "\r\n"},
		{"32 KiB and a byte", block("a: " + ks(32<<10-16+1))}, {"65,300 bytes", block("a: " + ks(65_300))},
		{"200,000 bytes", block("a: " + ks(200_000))},
	} {
		a.send(probe{p.name, hpub("events.k", p.block, "200"), refused})
	}
	a.send(
		probe{"32 KiB", hpub("events.k", block("a: "+ks(32<<10-17)), "200"), stored},
		probe{"an empty block", hpub("events.k", block(), "200"), stored},
		probe{"grows over max_payload by a blank a line", hpub("events.k", growing, "200"+ks(most-len(growing)-3)), refused},
		probe{"a byte over max_payload", pub("events.k", "200"+ks(most-2)), refused},
		probe{"100,000 bytes over max_payload", pub("events.k", "200"+ks(most+100_000)), refusedOrLost},
		probe{"block longer than the message", "HPUB events.k " + mailbox + "1 20 10\r\n" + block("a: b") + "\r\n",
			"^(-ERR|closed)"},
		probe{"negative size", "PUB events.k " + mailbox + "1 -1\r\n\r\n", "^(-ERR|closed)"},
		probe{"size that is not a number", "PUB events.k " + mailbox + "1 0x3\r\n200\r\n", "^(-ERR|closed)"},
		probe{"size of 20 digits", "PUB events.k " + mailbox + "1 99999999999999999999\r\n200\r\n", "^(-ERR|closed)"},
		probe{"longer than it says", "PUB events.k " + mailbox + "1 2\r\n200\r\n", "^(-ERR|closed)"},
		probe{"too many words", "PUB events.k a b c d e f 3\r\n200\r\n", "^(-ERR|closed)"},
		probe{"a broker's line", "RMSG $G events.k 3\r\n200\r\n", "^(-ERR|closed)"},
	)
}
