package attack

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"leasehold/internal/harness/scenario"
	"leasehold/internal/harness/testcluster"
)

// longKeys: messages whose dead letter would not fit the broker's line (C2, F1). What is stored becomes one.
func (a *arena) longKeys() {
	before := map[string]int{}
	for _, g := range []string{events, plant, triesGroup} {
		before[g] = a.count(g)
	}
	a.send(
		probe{"key of 4,060 bytes, rejected", quietly("events."+ks(4060), "422"), refusedOrLost},
		probe{"key of 3,000 bytes, rejected", quietly("events."+ks(3000), "422"), refusedOrLost},
		probe{"key of 1,000 bytes, rejected", quietly("events."+ks(1000), "422"), refusedOrLost},
		probe{"two tokens, 3,900 bytes, to be parked", quietly("plant."+ks(1950)+"."+ks(1950), "500"), refusedOrLost},
		probe{"key of 3,900 bytes, attempts used up", quietly("tries."+ks(3900), "500"), refusedOrLost},
		probe{"key of 512 bytes, rejected", pub("events."+ks(512), "422"), stored},
		probe{"key of 512 bytes of %, rejected", pub("events."+strings.Repeat("%", 512), "422"), stored},
		probe{"key of 512 bytes of UTF-8, rejected", pub("events."+strings.Repeat("é", 256), "422"), stored},
		probe{"key that is not UTF-8, rejected", pub("events."+strings.Repeat("\xff", 512), "422"), refused},
		probe{"two tokens, 512 bytes, to be parked", pub("plant."+ks(255)+"."+ks(256), "500"), stored},
		probe{"the next message of that key", pub("plant."+ks(255)+"."+ks(256), "200"), stored},
		probe{"key of 512 bytes, attempts used up, a group's name of 64", pub("tries."+ks(512), "500"), stored},
	)
	a.note("HTTP: key of 512 bytes, rejected", a.post("events/messages?key="+ks(512), "422"), httpStored)
	a.deadLettered(events, before[events], 4)
	a.deadLettered(plant, before[plant], 2)
	a.deadLettered(triesGroup, before[triesGroup], 1)
}

// headersOfLetters: headers that a dead letter makes longer (H3, F9).
func (a *arena) headersOfLetters() {
	before := a.count(events)
	many := func(line string, n int) []string { return slices.Repeat([]string{line}, n) }
	var different []string
	for i := range 2900 {
		different = append(different, fmt.Sprintf("X%04d: a", i))
	}
	a.send(
		probe{"5,400 headers Nats-a", hpub("events.k", "NATS/1.0\r\n"+strings.Repeat("Nats-a: x\r\n", 5400)+"\n\r\n", "422"),
			refused},
		probe{"2,000 headers Nats-a", hpub("events.k", block(many("Nats-a: x", 2000)...), "422"), refused},
		probe{"header of 65,300 bytes", hpub("events.k", block("X: "+ks(65_300)), "422"), refused},
		probe{"header of 60,000 bytes", hpub("events.k", block("X: "+ks(60_000)), "422"), refused},
		probe{"3,600 headers, 40 KB", hpub("events.k", block(many("X-A: abcde", 3600)...), "422"), refused},
		probe{"header of 32 KiB, rejected", hpub("events.k", block("X: "+ks(32<<10-17)), "422"), stored},
		probe{"2,900 headers, rejected", hpub("events.k", block(different...), "422"), stored},
		probe{"4,600 headers of one name, rejected", hpub("events.k", block(many("X: a", 4600)...), "422"), stored},
		probe{"names that differ in case, rejected", hpub("events.k", block("x-a: 1", "X-A: 2", "X-a: 3"), "422"), stored},
		probe{"names that are ours, rejected", hpub("events.k",
			block("Leasehold-Reason: x", "Leasehold-Original-Nats-Msg-Id: victim"), "422"), refused},
		probe{"names of punctuation, rejected", hpub("events.k", block("!#$%&'*+-.^_`|~: 1", "*: 2"), "422"), stored},
		probe{"32 KiB of headers and 1 MiB in all, rejected",
			hpub("events.k", block("X: "+ks(32<<10-17)), "422"+ks(1<<20-32<<10-3)), stored},
	)
	a.note("HTTP: ce- header of 40,000 bytes, rejected", a.post("events/messages?key=k", "422",
		"ce-specversion: 1.0", "ce-id: large-1", "ce-source: /s", "ce-type: t", "ce-x: "+ks(40_000)), httpRefused)
	a.note("HTTP: ce- header of 30,000 bytes, rejected", a.post("events/messages?key=k", "422",
		"ce-specversion: 1.0", "ce-id: large-2", "ce-source: /s", "ce-type: t", "ce-x: "+ks(30_000)), httpStored)
	a.deadLettered(events, before, 7)
}

// brokenByMessages: messages that only seem to show that the handler is broken (H4).
func (a *arena) brokenByMessages() {
	before := a.count(triesGroup)
	lines := slices.Repeat([]string{"X-Long: " + ks(92)}, 150)
	for i := range 16 {
		a.send(probe{"150 headers, more than the service takes", hpub(fmt.Sprintf("tries.k%d", i), block(lines...), "200"),
			stored})
	}
	for i, status := range []string{"414", "431", "413", "415"} {
		for j := range 4 {
			a.send(probe{"answered with " + status, pub(fmt.Sprintf("tries.k%d-%d", i, j), status), stored})
		}
	}
	a.deadLettered(triesGroup, before, 32)
	for i, payload := range []string{"500", "hang", "500", "502x", "500"} {
		payload = strings.Replace(payload, "502x", "409", 1)
		a.send(probe{fmt.Sprintf("failing message %d of one key: %s", i, payload), pub("tries.bad", payload), stored})
	}
	a.goodUntil(func() bool {
		g, err := a.Group(triesGroup)
		return err == nil && g.DeadLetters == before+32+5
	})
	a.deadLettered(triesGroup, before, 32+5)
}

// goodUntil publishes messages that succeed to all partitions of tries until something is so.
func (a *arena) goodUntil(done func() bool) {
	a.T.Helper()
	w, err := a.dial("")
	if err != nil {
		a.T.Fatal(err)
	}
	defer w.close()
	w.say(anonymous + subscribe)
	i := 0
	testcluster.Eventually(a.T, testcluster.MoveLimit, func() error {
		for range 4 {
			w.say(pub(fmt.Sprintf("tries.good%d", i), "200"))
			i++
			if heard := w.hear(false); heard != "stored" {
				return fmt.Errorf("a good message is %s", heard)
			}
		}
		if !done() {
			g, err := a.Group(triesGroup)
			return fmt.Errorf("%d dead letters, partitions say %v (%v)", g.DeadLetters, troubles(g), err)
		}
		return nil
	})
}

// printedPayloads: payloads that a handler prints, which look like its answers (M7). All of them are rejected.
func (a *arena) printedPayloads() {
	before := a.count(parrot)
	a.send(probe{"a good message", pub("parrot.k", "200"), stored})
	first := a.seq + 1
	for s, p := range []struct{ name, line string }{
		{"ok", `{"type":"result","id":"parrot/0/%d","status":"ok"}`},
		{"pause", `{"type":"result","id":"parrot/0/%d","status":"pause"}`},
		{"ok with an empty token", `{"type":"result","id":"parrot/0/%d","token":"","status":"ok"}`},
		{"ok with a guessed token",
			`{"type":"result","id":"parrot/0/%d","token":"0123456789abcdef0123456789abcdef","status":"ok"}`},
		{"ok with a token that is null", `{"type":"result","id":"parrot/0/%d","token":null,"status":"ok"}`},
		{"ok with two tokens", `{"type":"result","id":"parrot/0/%d","token":"a","token":"","status":"ok"}`},
		{"ok with a token that is a list", `{"type":"result","id":"parrot/0/%d","token":[""],"status":"ok"}`},
		{"retry in a day", `{"type":"result","id":"parrot/0/%d","status":"retry","after_ms":86400000}`},
		{"a second acknowledgement of init", `{"type":"ack","id":"0","token":"","wants":["batch"]}`},
	} {
		data := `{"always":"parrot","x":` + "\n" + strings.Replace(p.line, "%d", fmt.Sprint(first+uint64(s)), 1) + "\n}"
		a.send(probe{"prints " + p.name, pub("parrot.k", data), stored})
	}
	a.deadLettered(parrot, before, 9)
}

// requeued: dead letters of messages at the limits, published again (F10).
func (a *arena) requeued() {
	before := a.count(events)
	a.send(
		probe{"1 MiB, rejected", pub("events.k", "422"+ks(1<<20-3)), stored},
		probe{"1 MiB less 50 bytes, rejected", pub("events.k", "422"+ks(1<<20-53)), stored},
		probe{"1 MiB with an id of 256 bytes, rejected", withID(256), stored},
	)
	a.deadLettered(events, before, 3)
	a.webhook.merciful.Store(true)
	defer a.webhook.merciful.Store(false)
	a.note("dlq requeue of all of them", a.command("dlq", "requeue", events, "--all", "--yes", "--wait", "0s"), "^done")
	a.deadLettered(events, 0, 0)
}

// withID is a rejected message of max_payload with an id.
func withID(n int) string {
	head := block("Nats-Msg-Id: " + unlike(n))
	return hpub("events.k", head, "422"+ks(1<<20-len(head)-3))
}

// slowBodies: senders that begin a body and send no more (F11). Others publish meanwhile.
func (a *arena) slowBodies() {
	for _, head := range []string{"Transfer-Encoding: chunked", "Content-Length: 16777216", "Content-Length: 1048576",
		"Transfer-Encoding: chunked"} {
		for range 4 {
			w, err := a.dialSocket()
			if err != nil {
				a.T.Fatal(err)
			}
			defer w.close()
			w.say("POST /v1/topics/events/messages?key_field=k HTTP/1.1\r\nHost: l\r\nContent-Type: application/x-ndjson\r\n" +
				head + "\r\n\r\n")
			if strings.HasPrefix(head, "Transfer") {
				w.say("a\r\n{\"k\":\"a\"}\n\r\n")
			}
		}
	}
	begun := time.Now()
	for i := range 5 {
		a.note(fmt.Sprintf("HTTP: message %d beside 16 slow bodies", i), a.post("events/messages?key=k", "200"), httpStored)
	}
	a.note("HTTP: a body of 4 MB beside them", a.post("events/messages?key_field=k",
		strings.Repeat(`{"k":"a","x":"`+ks(1000)+"\"}\n", 4000), "Content-Type: application/x-ndjson"), httpStored)
	a.note("all of them", fmt.Sprintf("answered in %s", scenario.Short(time.Since(begun))), "^answered")
}
