package process

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// talk runs a shell that does what it is told, line by line, and the test ends
// it.
func talk(t *testing.T) (pid int, say func(line string) string) {
	t.Helper()
	cmd := exec.Command("bash")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	lines := bufio.NewReader(out)
	return cmd.Process.Pid, func(line string) string {
		t.Helper()
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			t.Fatal(err)
		}
		answer, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		return strings.TrimSpace(answer)
	}
}

func TestLimitFilesOfARunningProcess(t *testing.T) {
	pid, say := talk(t)
	opens := `{ (exec 30</dev/null) 2>/dev/null && exec 30</dev/null && echo open; } || echo refused; exec 30<&-`
	if got := say(opens); got != "open" {
		t.Fatalf("at first: %s", got)
	}
	before, was, err := OpenFiles(pid)
	if err != nil || before == 0 || was <= 30 {
		t.Fatalf("%d open of %d, %v", before, was, err)
	}
	if err := LimitFiles(pid, 20); err != nil {
		t.Fatal(err)
	}
	if _, limit, err := OpenFiles(pid); err != nil || limit != 20 {
		t.Errorf("limit %d, %v", limit, err)
	}
	if got := say(opens); got != "refused" {
		t.Errorf("number 30 with 20 files: %s", got)
	}
	if err := LimitFiles(pid, 0); err != nil {
		t.Fatal(err)
	}
	if got := say(opens); got != "open" {
		t.Errorf("the limit lifted: %s", got)
	}
}

func TestTreeHasWhatStemsFromIt(t *testing.T) {
	pid, say := talk(t)
	child, _ := strconv.Atoi(say(`sleep 600 & echo $!`))
	tree, err := Tree(pid)
	if err != nil || !slices.Contains(tree, pid) || !slices.Contains(tree, child) || !Alive(child) {
		t.Errorf("%v, %v has not both of %d and %d", tree, err, pid, child)
	}
	say(`kill -9 ` + strconv.Itoa(child) + `; wait 2>/dev/null; echo gone`)
	if Alive(child) {
		t.Errorf("%d is alive", child)
	}
	if resident, err := Memory(pid); err != nil || resident < 100_000 {
		t.Errorf("a shell of %d bytes, %v", resident, err)
	}
	if _, err := Memory(child); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("memory of a process that is gone: %v", err)
	}
}

func TestChildrenAreThoseThatAreThere(t *testing.T) {
	pid, say := talk(t)
	child, err := strconv.Atoi(say(`sleep 60 >/dev/null & echo $!`))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Children(pid); err != nil || !slices.Equal(got, []int{child}) {
		t.Errorf("children %v, %v, want %d", got, err, child)
	}
	say(`kill $! && wait $!; echo gone`)
	if got, err := Children(pid); err != nil || len(got) != 0 {
		t.Errorf("children %v, %v, want none", got, err)
	}
}
