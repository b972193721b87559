// Command backend is what handlers of every kind call in tests: it answers as
// the message itself says, and writes down when each call started and ended,
// for internal/harness/history to judge.
//
// A message says {"say":["retry","unavailable","ok"]}: the first call of it in
// a group is answered with the first word, and so on; once the words are used
// up, with what "always" says, or with ok. "ms" is how long each takes. A file
// GROUP.say in DIR holds a word for all calls of a group instead. Besides the
// statuses there are "hang" (no answer), "die" (the process ends in the call),
// "noise" (garbage first), "twice" (the answer comes two times), "stranger" (an
// answer for another message first), "parrot" (the message itself, before it is
// rejected), "flood" (much on stderr) and "fork" (a process that stays behind).
//
//	backend subprocess DIR
//	backend exec DIR
//	backend http DIR ADDRESS
//	backend nats DIR URL USER PASSWORD GROUP
//
// DIR is where the log goes, one file a process, and where calls are counted.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/testcluster/monotonic"
)

// call is one call, however it came.
type call struct {
	history.Call
	Data string
}

// backend answers calls.
type backend struct {
	dir string
	log *os.File
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "backend:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: backend subprocess|exec|http|nats DIR …")
	}
	b := &backend{dir: args[1]}
	var err error
	name := filepath.Join(b.dir, fmt.Sprintf("%s-%d.calls", args[0], os.Getpid()))
	if b.log, err = os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
		return err
	}
	rest := args[2:]
	switch {
	case args[0] == "subprocess":
		return b.subprocess()
	case args[0] == "exec":
		return b.exec()
	case args[0] == "http" && len(rest) == 1:
		return b.http(rest[0])
	case args[0] == "nats" && len(rest) == 4:
		return b.nats(rest[0], rest[1], rest[2], rest[3])
	}
	return fmt.Errorf("%q: no such backend", args)
}

// begin logs the start of a call and says how it is to be answered.
func (b *backend) begin(c *call) string {
	c.PID, c.Start = os.Getpid(), monotonic.Now()
	b.append(c.Call)
	var m struct {
		Say    []string `json:"say"`
		Always string   `json:"always"`
		MS     int      `json:"ms"`
	}
	if json.Unmarshal([]byte(c.Data), &m) != nil {
		return "ok"
	}
	time.Sleep(time.Duration(m.MS) * time.Millisecond)
	if say := b.ordered(c.Group); say != "" {
		return say
	}
	if len(m.Say) > 0 {
		if n := b.count(c); n < len(m.Say) {
			return m.Say[n]
		}
	}
	return cmp.Or(m.Always, "ok")
}

// ordered is what the test wants every call of the group to be answered with, whatever its message says.
func (b *backend) ordered(group string) string {
	text, err := os.ReadFile(filepath.Join(b.dir, group+".say"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(os.Stderr, "backend: order:", err)
		os.Exit(1)
	}
	return string(text)
}

// count returns how many calls of the message this group has had before, in any process, by the id that it was published
// with first.
func (b *backend) count(c *call) int {
	name := filepath.Join(b.dir, c.Group+"."+url.PathEscape(c.ID)+".count")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		defer f.Close()
		if _, err = f.WriteString("x"); err == nil {
			if info, err := f.Stat(); err == nil {
				return int(info.Size()) - 1
			}
		}
	}
	fmt.Fprintln(os.Stderr, "backend: count:", err)
	os.Exit(1)
	return 0
}

// end logs the end of a call with its result, before the answer is given.
func (b *backend) end(c *call, result string) {
	c.End, c.Result = monotonic.Now(), result
	b.append(c.Call)
}

func (b *backend) append(c history.Call) {
	line, err := json.Marshal(c)
	if err == nil {
		_, err = b.log.Write(append(line, '\n'))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "backend: write call log:", err)
		os.Exit(1)
	}
}

// misbehave does what can be done whatever the kind, and returns what is left to answer.
func misbehave(say string) string {
	switch say {
	case "hang":
		time.Sleep(time.Hour)
	case "die":
		os.Exit(3)
	case "flood":
		for i := range 5000 {
			fmt.Fprintln(os.Stderr, "flood", i, strings.Repeat("x", 200))
		}
		return "ok"
	case "fork":
		left := exec.Command("sleep", "300")
		left.Stderr = os.Stderr // So that it keeps a pipe to the node open, too.
		if err := left.Start(); err != nil {
			return "retry"
		}
		return "ok"
	}
	return say
}

// fromEnvelope makes a call of the fields that every kind passes on by name.
func fromEnvelope(get func(name string) string, data string) *call {
	c := &call{Data: data}
	c.Node, c.Group, c.Key, c.ID = get("node"), get("group"), get("key"), get("idempotency_key")
	c.Partition, _ = strconv.Atoi(get("partition"))
	c.Attempt, _ = strconv.Atoi(get("attempt"))
	c.Seq, _ = strconv.ParseUint(get("seq"), 10, 64)
	c.Epoch, _ = strconv.ParseUint(get("epoch"), 10, 64)
	return c
}
