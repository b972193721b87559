package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"leasehold/internal/harness/testcluster/stamp"
)

// line is any line from a node.
type line struct {
	Type      string `json:"type"`
	ID        string `json:"id"`
	Partition int    `json:"partition"`
	Seq       uint64 `json:"seq"`
	Data      string `json:"data"` // A handler would look at it.
	Messages  []line `json:"messages"`
	Config    struct {
		Batch  bool   `json:"batch"`
		Stamps string `json:"stamps"`
	} `json:"config"`
}

type answer struct {
	Type   string   `json:"type"`
	ID     string   `json:"id"`
	Status string   `json:"status,omitempty"`
	Wants  []string `json:"wants,omitempty"`
}

// subprocess answers one line after the other, as a plain program does.
func subprocess(in io.Reader, out io.Writer) error {
	lines, answers := bufio.NewReaderSize(in, 1<<20), json.NewEncoder(out)
	var log *stamp.Log
	for {
		text, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return err
		}
		a := answer{Type: "ack", ID: l.ID}
		var done stamp.Call
		switch l.Type {
		case "init":
			if log, err = stamp.Open(l.Config.Stamps); err != nil {
				return err
			}
			a.Wants = []string{"parallel"}
			if l.Config.Batch {
				a.Wants = append(a.Wants, "batch")
			}
		case "message", "batch":
			a.Type, a.Status, done = "result", "ok", l.call()
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
		if a.Type == "result" {
			if err := log.Write(done); err != nil {
				return err
			}
		}
	}
}

// call is a message or a batch that is answered now.
func (l line) call() stamp.Call {
	if n := len(l.Messages); n > 0 {
		return stamp.Answer(l.Partition, l.Messages[0].Seq, l.Messages[n-1].Seq)
	}
	return stamp.Answer(l.Partition, l.Seq, l.Seq)
}

// answered is a request of http or nats that is answered now: a message, or lines of them.
func answered(header func(string) string, body []byte) (stamp.Call, error) {
	partition, _ := strconv.Atoi(header("Leasehold-Partition"))
	if header("Leasehold-Messages") == "" {
		seq, err := strconv.ParseUint(header("Leasehold-Seq"), 10, 64)
		return stamp.Answer(partition, seq, seq), err
	}
	batch := line{Partition: partition}
	for text := range bytes.Lines(body) {
		var m line
		if err := json.Unmarshal(text, &m); err != nil {
			return stamp.Call{}, err
		}
		batch.Messages = append(batch.Messages, m)
	}
	return batch.call(), nil
}

// serveHTTP serves until it is killed.
func serveHTTP(log *stamp.Log, address string) error {
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // The node is gone.
		}
		done, err := answered(r.Header.Get, body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusOK)
		keep(log, done)
	}))
}

// serveNATS answers the requests of a group until it is killed.
func serveNATS(log *stamp.Log, url, user, password, group string) error {
	nc, err := nats.Connect(url, nats.UserInfo(user, password), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.RetryOnFailedConnect(true))
	if err != nil {
		return err
	}
	_, err = nc.QueueSubscribe("leasehold.serve."+group, "plain", func(m *nats.Msg) {
		done, err := answered(m.Header.Get, m.Data)
		if err == nil {
			err = m.Respond(nil)
		}
		if err != nil { // The node sees that it gets no answer.
			fmt.Fprintln(os.Stderr, "plain:", err)
			return
		}
		keep(log, done)
	})
	if err != nil {
		return err
	}
	select {}
}

// keep writes an answer down. Without its stamps the program must not go on.
func keep(log *stamp.Log, done stamp.Call) {
	if err := log.Write(done); err != nil {
		fmt.Fprintln(os.Stderr, "plain:", err)
		os.Exit(1)
	}
}
