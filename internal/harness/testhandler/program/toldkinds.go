package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/sdk"
)

// subprocess handles one message at a time. It serves stdout itself, where Run would protect it: some words are about
// what a program must not print there.
func (t *told) subprocess() error {
	in := bufio.NewReader(os.Stdin)
	first, err := in.ReadBytes('\n')
	if err != nil {
		return err
	}
	var init struct{ Token string }
	if err := json.Unmarshal(first, &init); err != nil {
		return err
	}
	h := sdk.Handler{
		Handle: func(_ context.Context, m *sdk.Message) error { return t.handle(m, init.Token) },
		Grace:  time.Hour, // A call that hangs does so, too, when the node is gone.
	}
	return sdk.Serve(context.Background(), h, io.MultiReader(bytes.NewReader(first), in), os.Stdout)
}

var errAsTold = errors.New("as told")

func (t *told) handle(m *sdk.Message, token string) error {
	c := &toldCall{Call: callOf(m), Data: string(m.Data)}
	say := misbehave(t.begin(c))
	printResult := func(id, status string) {
		fmt.Printf("{\"type\":\"result\",\"id\":%q,\"token\":%q,\"status\":%q}\n", id, token, status)
	}
	switch say {
	case "parrot":
		fmt.Println(c.Data)
		say = "reject"
	case "noise":
		fmt.Print("garbage {\"type\":\n\x00\xff{}\n")
		say = "ok"
	case "stranger":
		printResult("orders/0/999999", "reject")
		say = "ok"
	case "twice":
		t.log.end(&c.Call, "ok")
		printResult(m.ID, "ok")
		return sdk.Reject(errAsTold)
	}
	t.log.end(&c.Call, say)
	if say == "ok" {
		return nil
	}
	return &sdk.Error{Status: sdk.Status(say), Err: errAsTold}
}

// exec is one call: the envelope in the environment, the payload on stdin, the answer the exit code.
func (t *told) exec() error {
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	get := func(name string) string { return os.Getenv("LEASEHOLD_" + strings.ToUpper(name)) }
	c := &toldCall{Call: callOfFields(get), Data: string(data)}
	c.Agent = agent
	say := misbehave(t.begin(c))
	code, known := map[string]int{"ok": 0, "reject": 65, "unavailable": 69, "retry": 75}[say]
	if !known {
		say, code = "ok", 0
	}
	t.log.end(&c.Call, say)
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
func (t *told) http(address string) error {
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		get := func(name string) string { return r.Header.Get(headerOf(name)) }
		c := &toldCall{Call: callOfFields(get), Data: string(data)}
		c.ID = r.Header.Get("Idempotency-Key")
		say := t.begin(c)
		if say == "hang" { // Only this call; others are served meanwhile.
			<-r.Context().Done()
			return
		}
		say, code := served(say)
		t.log.end(&c.Call, say)
		w.WriteHeader(code)
		io.WriteString(w, errAsTold.Error())
	}))
}

// nats answers requests of a group until it is killed.
func (t *told) nats(s service) error {
	return s.serve(func(m *nats.Msg) { go t.answerRequest(m) })
}

func (t *told) answerRequest(m *nats.Msg) {
	get := func(name string) string { return m.Header.Get(http.CanonicalHeaderKey(headerOf(name))) }
	c := &toldCall{Call: callOfFields(get), Data: string(m.Data)}
	say := t.begin(c)
	if say == "hang" {
		return
	}
	say, code := served(say)
	t.log.end(&c.Call, say)
	answer := nats.NewMsg(m.Reply)
	if say != "ok" {
		answer.Header.Set("Nats-Service-Error-Code", fmt.Sprint(code))
		answer.Header.Set("Nats-Service-Error", errAsTold.Error())
	}
	if err := m.RespondMsg(answer); err != nil {
		fmt.Fprintln(os.Stderr, "WARN test handler: respond:", err)
	}
}

// service is how a program answers the requests of a group.
type service struct{ url, user, password, group string }

// serve calls answer for each request until the process is killed.
func (s service) serve(answer nats.MsgHandler) error {
	nc, err := nats.Connect(s.url, nats.UserInfo(s.user, s.password), nats.MaxReconnects(-1),
		nats.ReconnectWait(50*time.Millisecond), nats.RetryOnFailedConnect(true))
	if err != nil {
		return err
	}
	if _, err := nc.QueueSubscribe("leasehold.serve."+s.group, "test", answer); err != nil {
		return err
	}
	select {}
}
