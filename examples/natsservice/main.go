// Command natsservice serves a group of kind "nats" from any machine that reaches a node, as a [[user]] with
// serve = ["GROUP"]. Start as many as you like: the queue group gives each message to one of them.
package main

import (
	"encoding/json"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/nats-io/nats.go"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: natsservice nats://USER:PASSWORD@HOST:4222 GROUP")
	}
	closed := make(chan struct{})
	nc, err := nats.Connect(os.Args[1], nats.MaxReconnects(-1), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err != nil {
		log.Fatal(err)
	}
	if err := serve(nc, os.Args[2]); err != nil {
		log.Fatal(err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
	_ = nc.Drain() // Answers what has come in; an error means that nothing can be answered any more.
	<-closed
}

func serve(nc *nats.Conn, group string) error {
	_, err := nc.QueueSubscribe("leasehold.serve."+group, "natsservice", answer)
	return err
}

// answer handles one message. What it stores belongs into one transaction with the epoch: see ../postgres.
func answer(m *nats.Msg) {
	reply := nats.NewMsg(m.Reply) // Empty, without headers: ok.
	if !json.Valid(m.Data) {
		reply.Header.Set("Nats-Service-Error-Code", "422") // Read like an HTTP status: this message will never work.
		reply.Header.Set("Nats-Service-Error", "the payload is no JSON")
	}
	log.Println(m.Header.Get("Leasehold-Id"), "epoch", m.Header.Get("Leasehold-Epoch"), "key",
		m.Header.Get("Leasehold-Key"))
	_ = m.RespondMsg(reply) // An error means that nobody waits any more; the message will come again.
}
