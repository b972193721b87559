package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/internal/harness/history"
)

// subprocess works on one line after the other, as a plain program does.
func (b *backend) subprocess() error {
	in, token := bufio.NewReaderSize(os.Stdin, 1<<20), ""
	for {
		line, err := in.ReadBytes('\n')
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		var m struct {
			Type, ID, Token, Node, Group, Key, Data string
			Idem                                    string `json:"idempotency_key"`
			Partition, Attempt                      int
			Seq, Epoch                              uint64
		}
		if err := json.Unmarshal(line, &m); err != nil {
			return err
		}
		if m.Type != "message" {
			token = cmp.Or(m.Token, token)
			fmt.Printf("{\"type\":\"ack\",\"id\":%q,\"token\":%q}\n", m.ID, token)
			continue
		}
		c := &call{Data: m.Data, Call: history.Call{Node: m.Node, Group: m.Group, Partition: m.Partition, Epoch: m.Epoch, Seq: m.Seq,
			Attempt: m.Attempt, Key: m.Key, ID: m.Idem, Agent: os.Getppid()}}
		b.answerLine(c, m.ID, token)
	}
}

func (b *backend) answerLine(c *call, id, token string) {
	say := misbehave(b.begin(c))
	result := func(id, status string) {
		fmt.Printf("{\"type\":\"result\",\"id\":%q,\"token\":%q,\"status\":%q,\"reason\":\"as told\"}\n", id, token, status)
	}
	switch say {
	case "parrot":
		fmt.Println(c.Data)
		say = "reject"
	case "noise":
		fmt.Print("garbage {\"type\":\n\x00\xff{}\n")
		say = "ok"
	case "stranger":
		result("orders/0/999999", "reject")
		say = "ok"
	case "twice":
		b.end(c, "ok")
		result(id, "ok")
		result(id, "reject")
		return
	}
	b.end(c, say)
	result(id, say)
}

// exec is one call: the envelope in the environment, the payload on stdin, the answer the exit code.
func (b *backend) exec() error {
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	c := fromEnvelope(func(name string) string { return os.Getenv("LEASEHOLD_" + strings.ToUpper(name)) }, string(data))
	c.Agent = os.Getppid()
	say := misbehave(b.begin(c))
	code, known := map[string]int{"ok": 0, "reject": 65, "unavailable": 69, "retry": 75}[say]
	if !known {
		say, code = "ok", 0
	}
	b.end(c, say)
	os.Exit(code)
	return nil
}

// codes are the statuses of HTTP that stand for an answer.
var codes = map[string]int{"ok": 200, "retry": 500, "reject": 422, "unavailable": 503, "pause": 410}

// served is how a service for many calls answers: what it cannot do in one of them alone is an ok.
func served(say string) (string, int) {
	if code, known := codes[say]; known {
		return say, code
	}
	return "ok", http.StatusOK
}

func headerOf(name string) string { return "Leasehold-" + strings.ReplaceAll(name, "_", "-") }

// http serves until it is killed.
func (b *backend) http(address string) error {
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		c := fromEnvelope(func(name string) string { return r.Header.Get(headerOf(name)) }, string(data))
		c.ID = r.Header.Get("Idempotency-Key")
		say := b.begin(c)
		if say == "hang" { // Only this call: others go on.
			<-r.Context().Done()
			return
		}
		say, code := served(say)
		b.end(c, say)
		w.WriteHeader(code)
		io.WriteString(w, "as told")
	}))
}

// nats answers requests of a group until it is killed.
func (b *backend) nats(url, user, password, group string) error {
	nc, err := nats.Connect(url, nats.UserInfo(user, password), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.RetryOnFailedConnect(true))
	if err != nil {
		return err
	}
	_, err = nc.QueueSubscribe("leasehold.serve."+group, "backends", func(m *nats.Msg) { go b.answerRequest(m) })
	if err != nil {
		return err
	}
	select {}
}

func (b *backend) answerRequest(m *nats.Msg) {
	c := fromEnvelope(func(name string) string { return m.Header.Get(http.CanonicalHeaderKey(headerOf(name))) }, string(m.Data))
	say := b.begin(c)
	if say == "hang" {
		return
	}
	say, code := served(say)
	b.end(c, say)
	answer := nats.NewMsg(m.Reply)
	if say != "ok" {
		answer.Header.Set("Nats-Service-Error-Code", fmt.Sprint(code))
		answer.Header.Set("Nats-Service-Error", "as told")
	}
	if err := m.RespondMsg(answer); err != nil {
		fmt.Fprintln(os.Stderr, "backend: respond:", err)
	}
}
