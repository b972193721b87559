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
	"strings"
	"time"

	"leasehold/internal/harness/history"
)

// told answers as each message says, and logs when each call started and ended, for history to judge. The log and the
// counts of calls are in dir.
//
// A message says {"say":["retry","unavailable","ok"]}: the first call of it in a group is answered with the first word,
// and so on; once the words are used up, with what "always" says, or with ok. "ms" is how long each call takes. A file
// GROUP.say in dir holds a word for all calls of the group instead. Besides the statuses there are "hang" (no answer),
// "die" (the process ends in the call), "noise" (garbage first), "twice" (the answer comes two times), "stranger" (an
// answer for another message first), "parrot" (the message itself, before it is rejected), "flood" (much on stderr) and
// "fork" (a process that stays behind).
type told struct {
	dir string
	log callLog
}

// toldCall is one call, however it came.
type toldCall struct {
	history.Call
	Data string
}

func runTold(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: program told subprocess|exec|http|nats DIR …")
	}
	t := &told{dir: args[1]}
	var err error
	if t.log, err = openCallLog(filepath.Join(t.dir, fmt.Sprintf("%s-%d.calls", args[0], os.Getpid()))); err != nil {
		return err
	}
	rest := args[2:]
	switch {
	case args[0] == "subprocess":
		return t.subprocess()
	case args[0] == "exec":
		return t.exec()
	case args[0] == "http" && len(rest) == 1:
		return t.http(rest[0])
	case args[0] == "nats" && len(rest) == 4:
		return t.nats(service{rest[0], rest[1], rest[2], rest[3]})
	}
	return fmt.Errorf("told %q: wrong arguments", args)
}

// begin logs the start of a call and returns the word with which it is to be answered.
func (t *told) begin(c *toldCall) string {
	t.log.begin(&c.Call)
	var m struct {
		Say    []string `json:"say"`
		Always string   `json:"always"`
		MS     int      `json:"ms"`
	}
	if json.Unmarshal([]byte(c.Data), &m) != nil {
		return "ok"
	}
	time.Sleep(time.Duration(m.MS) * time.Millisecond)
	if say := t.ordered(c.Group); say != "" {
		return say
	}
	if len(m.Say) > 0 {
		if n := t.count(c); n < len(m.Say) {
			return m.Say[n]
		}
	}
	return cmp.Or(m.Always, "ok")
}

// ordered is the word for all calls of a group, whatever the messages say; empty if there is none.
func (t *told) ordered(group string) string {
	text, err := os.ReadFile(filepath.Join(t.dir, group+".say"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(os.Stderr, "ERROR test handler: order:", err)
		os.Exit(1)
	}
	return string(text)
}

// count returns how many calls of the message this group has had before, in any process. A requeued message keeps its
// count, since its idempotency key is that of its first publishing.
func (t *told) count(c *toldCall) int {
	name := filepath.Join(t.dir, c.Group+"."+url.PathEscape(c.ID)+".count")
	n, err := appendByte(name)
	if err != nil {
		fmt.Fprintln(os.Stderr, "ERROR test handler: count:", err)
		os.Exit(1)
	}
	return n - 1
}

// appendByte makes a file one byte longer and returns its length.
func appendByte(name string) (int, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if _, err := f.WriteString("x"); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return int(info.Size()), nil
}

// misbehave does what does not depend on the kind of handler, and returns the word that is left to answer.
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
