//go:build bench

package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"leasehold/internal/harness/monotonic"
	"leasehold/internal/harness/testcluster"
	"leasehold/internal/harness/testhandler"
)

// costKind is a row of the table: a kind of handler, in one of its forms, that does nothing.
type costKind struct {
	name     string
	messages int // Of the backlog, for a drain of some seconds.
	rate     int // Live, a second. 0: nobody but the node knows when the handler answers.
	// handler is the inline table of a group. It starts the service that the group needs. With stamps, a file, the handler
	// writes down when it answered.
	handler func(r *costRig, group, stamps string) string
}

var costKinds = []costKind{
	{"discard", 300_000, 0, func(*costRig, string, string) string { return `{ kind = "discard" }` }},
	{"file", 200_000, 500, func(r *costRig, group, _ string) string {
		return fmt.Sprintf(`{ kind = "file", path = %q }`, filepath.Join(r.Dir, group))
	}},
	{"subprocess, Python, examples/minimal.py", 60_000, 0, child(false, "python3", "../../../examples/minimal.py")},
	{"subprocess, Python", 80_000, 500, child(false, "python3", "testdata/plain.py")},
	{"subprocess, Python, batches", 200_000, 500, child(true, "python3", "testdata/plain.py")},
	{"subprocess, Go", 80_000, 500, plainChild(false)},
	{"subprocess, Go, batches", 200_000, 500, plainChild(true)},
	{"http", 40_000, 500, webhook(1)},
	{"http, batches", 200_000, 500, webhook(100)},
	{"nats", 60_000, 500, service(1)},
	{"nats, batches", 200_000, 500, service(100)},
	{"exec", 5_000, 50, func(r *costRig, _, stamps string) string {
		return fmt.Sprintf(`{ kind = "exec", command = [%s] }`,
			quoted(append([]string{testcluster.ExecHandlerBinary(r.t)}, some(stamps)...)))
	}},
}

// child is a subprocess. The last word of its command is a file of this repository.
func child(batch bool, command ...string) func(*costRig, string, string) string {
	return func(r *costRig, _, stamps string) string {
		r.t.Helper()
		last := len(command) - 1
		file, err := filepath.Abs(command[last]) // Nodes run elsewhere.
		if err != nil {
			r.t.Fatal(err)
		}
		return childTable(append(command[:last:last], file), batch, stamps)
	}
}

func plainChild(batch bool) func(*costRig, string, string) string {
	return func(r *costRig, _, stamps string) string {
		return childTable([]string{
			testcluster.HandlerBinary(r.t), "plain", fmt.Sprintf("-batch=%t", batch), "-stamps", stamps, "subprocess",
		}, batch, stamps)
	}
}

func childTable(command []string, batch bool, stamps string) string {
	return fmt.Sprintf(`{ kind = "subprocess", command = [%s], config = { batch = %t, stamps = %q } }`, quoted(command),
		batch, stamps)
}

func webhook(batch int) func(*costRig, string, string) string {
	return func(r *costRig, _, stamps string) string {
		address := r.FreeAddress()
		r.serve(stamps, "http", address)
		return fmt.Sprintf(`{ kind = "http", url = "http://%s/", batch = %d }`, address, batch)
	}
}

func service(batch int) func(*costRig, string, string) string {
	return func(r *costRig, group, stamps string) string {
		r.LetServe(group+"-server", "secret", group)
		r.serve(stamps, "nats", strings.Join(r.URLs(), ","), group+"-server", "secret", group)
		return fmt.Sprintf(`{ kind = "nats", batch = %d }`, batch)
	}
}

// serve starts a service whose processor time is that of the handler.
func (r *costRig) serve(stamps string, args ...string) {
	r.t.Helper()
	r.services = append(r.services, r.RunBeside(testcluster.HandlerBinary(r.t),
		append([]string{"plain", "-stamps", stamps}, args...)...).PID())
}

func quoted(words []string) string {
	var all []string
	for _, w := range words {
		all = append(all, fmt.Sprintf("%q", w))
	}
	return strings.Join(all, ", ")
}

// some is a list of a word, unless it is empty.
func some(word string) []string {
	if word == "" {
		return nil
	}
	return []string{word}
}

// answers are the times at which the live group's handler answered.
func (r *costRig) answers() testhandler.Times {
	r.t.Helper()
	files := r.fileLines(liveGroup)
	if len(files) > 0 {
		return r.started(files)
	}
	f, err := os.Open(r.stamps())
	if err != nil {
		return nil // Nothing was answered yet.
	}
	defer f.Close()
	times, err := testhandler.ReadStamps(f)
	if err != nil {
		r.t.Fatal(err)
	}
	return times
}

// started reads files of the kind file: a line says when its call began, on the wall clock, and it has not many
// microseconds before its end.
func (r *costRig) started(files []string) testhandler.Times {
	r.t.Helper()
	times := testhandler.Times{}
	boot := time.Now().UnixNano() - monotonic.Now()
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			r.t.Fatal(err)
		}
		whole := text[:strings.LastIndexByte(string(text), '\n')+1]
		for line := range strings.Lines(string(whole)) {
			var l struct {
				Partition int
				Seq       uint64
				Started   time.Time
			}
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				r.t.Fatalf("%s: %q: %v", name, line, err)
			}
			times[l.Partition] = append(times[l.Partition], testhandler.Stamp{Partition: l.Partition, First: l.Seq, Last: l.Seq,
				At: l.Started.UnixNano() - boot})
		}
	}
	return times
}

// fileLines are the files that a group of the kind file has written.
func (r *costRig) fileLines(group string) []string {
	r.t.Helper()
	files, err := filepath.Glob(filepath.Join(r.Dir, group, "*.ndjson"))
	if err != nil {
		r.t.Fatal(err)
	}
	return files
}
