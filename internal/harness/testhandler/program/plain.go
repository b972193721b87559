package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"

	"github.com/nats-io/nats.go"

	"leasehold/internal/harness/testhandler"
	"leasehold/sdk"
)

// runPlain is a handler that does nothing, for measuring what calling one costs. With -stamps it writes down when it
// answered each call.
func runPlain(args []string) error {
	flags := flag.NewFlagSet("plain", flag.ContinueOnError)
	stamps := flags.String("stamps", "", "file for the times of the answers")
	batch := flags.Bool("batch", false, "ask for batches; for subprocess")
	if err := flags.Parse(args); err != nil {
		return err
	}
	log, err := testhandler.OpenStamps(*stamps)
	args = flags.Args()
	switch {
	case err != nil:
		return err
	case len(args) == 1 && args[0] == "subprocess":
		return plainSubprocess(log, *batch)
	case len(args) == 2 && args[0] == "http":
		return plainHTTP(log, args[1])
	case len(args) == 5 && args[0] == "nats":
		return plainNATS(log, service{args[1], args[2], args[3], args[4]})
	}
	return errors.New("usage: program plain [-batch] [-stamps FILE] subprocess | http ADDRESS | nats URL USER PASSWORD " +
		"GROUP")
}

func plainSubprocess(log *testhandler.Stamps, batch bool) error {
	h := sdk.Handler{Parallel: true, Handle: func(_ context.Context, m *sdk.Message) error {
		return log.Write(testhandler.Answered(m.Partition, m.Seq, m.Seq))
	}}
	if batch {
		h.HandleBatch = func(_ context.Context, ms []*sdk.Message) error {
			return log.Write(testhandler.Answered(ms[0].Partition, ms[0].Seq, ms[len(ms)-1].Seq))
		}
	}
	return sdk.Run(context.Background(), h)
}

// answered is a request of http or nats that is answered now: a message, or lines of them.
func answered(header func(string) string, body []byte) (testhandler.Stamp, error) {
	partition, _ := strconv.Atoi(header("Leasehold-Partition"))
	if header("Leasehold-Messages") == "" {
		seq, err := strconv.ParseUint(header("Leasehold-Seq"), 10, 64)
		return testhandler.Answered(partition, seq, seq), err
	}
	var ms []sdk.Message
	for text := range bytes.Lines(body) {
		var m struct {
			sdk.Message
			Text string `json:"data"` // A handler would look at it.
		}
		if err := json.Unmarshal(text, &m); err != nil {
			return testhandler.Stamp{}, err
		}
		ms = append(ms, m.Message)
	}
	if len(ms) == 0 {
		return testhandler.Stamp{}, errors.New("empty batch")
	}
	return testhandler.Answered(partition, ms[0].Seq, ms[len(ms)-1].Seq), nil
}

// plainHTTP serves until it is killed.
func plainHTTP(log *testhandler.Stamps, address string) error {
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

// plainNATS answers the requests of a group until it is killed.
func plainNATS(log *testhandler.Stamps, s service) error {
	return s.serve(func(m *nats.Msg) {
		done, err := answered(m.Header.Get, m.Data)
		if err == nil {
			err = m.Respond(nil)
		}
		if err != nil { // The node sees that it gets no answer.
			fmt.Fprintln(os.Stderr, "WARN test handler:", err)
			return
		}
		keep(log, done)
	})
}

// keep writes an answer down. The program must not continue without its stamps.
func keep(log *testhandler.Stamps, done testhandler.Stamp) {
	if err := log.Write(done); err != nil {
		fmt.Fprintln(os.Stderr, "ERROR test handler:", err)
		os.Exit(1)
	}
}
