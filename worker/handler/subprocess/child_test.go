package subprocess

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/handler/process"
	"leasehold/worker/handler/wire"
	"leasehold/worker/header"
	"leasehold/worker/workertest"
)

// The tests use their own binary as the child process: with testChild set it is a handler that does what each message
// tells it to do.
const (
	testChild  = "LEASEHOLD_TEST_CHILD"  // How the child behaves.
	testTrace  = "LEASEHOLD_TEST_TRACE"  // File to which it appends every line that it gets.
	testParent = "LEASEHOLD_TEST_PARENT" // Set: be a node that has a child, see TestChildDiesWithTheNode.
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(testChild) != "":
		os.Exit(runTestChild(os.Getenv(testChild)))
	case os.Getenv(testParent) != "":
		os.Exit(runTestParent(os.Getenv(testParent)))
	}
	os.Exit(m.Run())
}

// runTestChild is the child. Its behaviour is "plain" or a list of the words below.
func runTestChild(behaviour string) int {
	words := strings.Split(behaviour, ",")
	has := func(w string) bool { return slices.Contains(words, w) }
	if has("dies-at-start") {
		fmt.Fprintln(os.Stderr, "no database here")
		return 3
	}
	if has("deaf-to-term") {
		signal.Ignore(syscall.SIGTERM)
	}
	if has("chatty") {
		fmt.Println("hello, I am a handler")
	}
	if has("byte-order-mark") {
		fmt.Print("\ufeff")
	}
	in, token := bufio.NewReaderSize(os.Stdin, 1<<20), ""
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			if has("deaf-to-term") {
				time.Sleep(time.Hour)
			}
			return 0
		}
		trace(line)
		var m wire.MessageLine
		if err := json.Unmarshal(line, &m); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 4
		}
		switch m.Type {
		case "init":
			if has("never-ready") {
				fmt.Fprintln(os.Stderr, "still loading the model")
				time.Sleep(time.Hour)
			}
			if has("number-ids") {
				fmt.Println(`{"type":"ack","id":0}`)
				continue
			}
			if has("says-other-things") {
				fmt.Println("\ufeff\u001b[31mready!")
				continue
			}
			if has("acknowledges-another") {
				fmt.Println(`{"type":"ack","id":"init"}`)
				continue
			}
			if has("token") || has("other-token") || has("forgets-token") {
				var init struct{ Token string }
				_ = json.Unmarshal(line, &init)
				token = init.Token
				ack := map[string]any{"type": "ack", "id": m.ID, "token": token, "wants": []string{"batch"}}
				if has("other-token") {
					ack["token"] = "mine"
				}
				send(ack)
				continue
			}
			if has("no-batches") {
				send(map[string]any{"type": "ack", "id": m.ID})
				continue
			}
			wants := []string{"progress", "batch"}
			if has("parallel") {
				wants = append(wants, "parallel")
			}
			send(map[string]any{"type": "ack", "id": m.ID, "wants": wants})
		case "revoke":
			if !has("no-revoke") {
				send(map[string]any{"type": "ack", "id": m.ID})
			}
		case "assign", "stop":
			send(map[string]any{"type": "ack", "id": m.ID})
		case "message":
			if has("token") {
				printAndAnswer(m.ID, *m.Data, token)
				continue
			}
			obey(m)
		case "batch":
			if has("token") {
				printAndAnswer(m.ID, batchData(line), token)
				continue
			}
			obeyBatch(line)
		}
	}
}

// printAndAnswer is a handler that prints what it gets to stdout and then rejects it.
func printAndAnswer(id, data, token string) {
	fmt.Println(strings.ReplaceAll(data, "ID", id))
	send(map[string]any{"type": "result", "id": id, "status": "reject", "reason": "looked at", "token": token})
}

func batchData(line []byte) string {
	var b wire.BatchLine
	if err := json.Unmarshal(line, &b); err != nil {
		panic(err)
	}
	return *b.Messages[0].Data
}

// obeyBatch does what the first message says that is not "ok".
func obeyBatch(line []byte) {
	var b wire.BatchLine
	if err := json.Unmarshal(line, &b); err != nil {
		panic(err)
	}
	result := map[string]any{"type": "result", "id": b.ID, "status": "ok"}
messages:
	for i, m := range b.Messages {
		word, arg, _ := strings.Cut(*m.Data, " ")
		switch word {
		case "ok":
			continue
		case "crash", "hang":
			obey(m)
		case "answer": // As written, with the batch's id.
			os.Stdout.WriteString(strings.Replace(arg, "{", fmt.Sprintf(`{"type":"result","id":%q,`, b.ID), 1) + "\n")
			return
		default:
			result["status"], result["failed"] = "partial", map[string]any{"seq": m.Seq, "status": word,
				"reason": header.Cut(arg, 4000), "after_ms": 1500}
			if i > 0 {
				result["ok_through"] = b.Messages[i-1].Seq
			}
			break messages
		}
	}
	send(result)
}

func trace(line []byte) {
	if name := os.Getenv(testTrace); name != "" {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			panic(err)
		}
		defer f.Close()
		if _, err := f.Write(line); err != nil {
			panic(err)
		}
	}
}

func send(v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(append(text, '\n'))
}

var held *wire.MessageLine // A message that waits for the next one.

// obey does what the message says.
func obey(m wire.MessageLine) {
	if m.Data == nil {
		sum := sha256.Sum256(m.DataB64)
		send(map[string]any{"type": "result", "id": m.ID, "status": "reject", "reason": fmt.Sprintf("%x", sum)})
		return
	}
	word, arg, _ := strings.Cut(*m.Data, " ")
	result := func(status string) {
		send(map[string]any{"type": "result", "id": m.ID, "status": status, "reason": header.Cut(arg, 4000),
			"after_ms": 1500})
	}
	switch word {
	case "crash":
		fmt.Fprintln(os.Stderr, "something terrible:", arg)
		os.Exit(7)
	case "crash-once":
		if m.Attempt == 1 {
			os.Exit(7)
		}
		result("ok")
	case "hang":
		fmt.Fprintln(os.Stderr, "waiting for godot")
		time.Sleep(time.Hour)
	case "sleep":
		d, err := time.ParseDuration(arg)
		if err != nil {
			panic(err)
		}
		time.Sleep(d)
		result("ok")
	case "garbage":
		fmt.Println("print debugging\n{\n{}\n[1]\n\"type\"\nnull\n{\"type\":\"weather\",\"id\":\"1\"}\n\x00\xff\xfe")
		fmt.Println(strings.Repeat("x", 3*process.MaxLine))
		result("ok")
	case "confused":
		send(map[string]any{"type": "result", "id": "orders/0/999", "status": "reject"})
		send(map[string]any{"type": "ack", "id": m.ID})
		send(map[string]any{"type": "result", "id": m.ID, "status": "reject", "attempt": m.Attempt + 1})
		result("ok")
		result("reject")
		result("reject")
	case "unreadable":
		fmt.Printf("{\"type\":\"result\",\"id\":%q,\"status\":{\"ok\":true}}\n", m.ID)
	case "flood":
		line := strings.Repeat("spam ", 200) + "\n"
		for range 20_000 {
			os.Stderr.WriteString(line)
		}
		result("ok")
	case "fork": // A helper in the same group and one that has left it; both would live on.
		group, own := exec.Command("sleep", "300"), exec.Command("sleep", "300")
		own.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := group.Start(); err != nil {
			panic(err)
		}
		if arg != "" {
			own.ExtraFiles = []*os.File{os.NewFile(3, "lock")}
			if err := own.Start(); err != nil {
				panic(err)
			}
		}
		trace(fmt.Appendf(nil, "pids %d %d\n", group.Process.Pid, pidOf(own)))
		time.Sleep(time.Hour)
	case "close-stdout":
		os.Stdout.Close()
		time.Sleep(time.Hour)
	case "hold":
		held = &m
	case "release": // Answers in the reverse order.
		result("ok")
		send(map[string]any{"type": "result", "id": held.ID, "status": "reject", "reason": "held"})
	case "environ":
		env := os.Environ()
		slices.Sort(env)
		send(map[string]any{"type": "result", "id": m.ID, "status": "reject", "reason": strings.Join(env, " ")})
	default:
		result(word)
	}
}

func pidOf(cmd *exec.Cmd) int {
	if cmd.Process == nil {
		return 0
	}
	return cmd.Process.Pid
}

// runTestParent is a node with one child that hangs in a call. It waits to be killed.
func runTestParent(traceFile string) int {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	s, err := New(Config{
		Command: []string{exe}, Processes: 1,
		Env: map[string]string{testChild: "deaf-to-term", testTrace: traceFile},
	}, handler.Env{})
	if err != nil {
		panic(err)
	}
	go s.Run(context.Background())
	go callUntilReady(context.Background(), s, workertest.Message(0, 1, "hang"))
	for s.children()[0].PID == 0 {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(s.children()[0].PID)
	time.Sleep(time.Minute)
	return 0
}
