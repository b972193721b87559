package tutorial

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// section is the part of a page below a heading.
func section(t *testing.T, path, heading string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("%s has no section %q", path, heading)
	}
	body, _, _ := strings.Cut(after, "\n## ")
	return body
}

// typed lists the commands of a section that stand in indented blocks, with those that go on over several lines in one.
func typed(section string) (commands []string) {
	section = strings.ReplaceAll(section, "\\\n", " ")
	for line := range strings.Lines(section) {
		if command, is := strings.CutPrefix(line, "    "); is {
			commands = append(commands, strings.TrimSpace(command))
		}
	}
	return commands
}

// pasted is the one TOML block of a section.
func pasted(t *testing.T, section string) string {
	t.Helper()
	_, after, found := strings.Cut(section, "```toml\n")
	block, _, closed := strings.Cut(after, "```")
	if !found || !closed {
		t.Fatal("no TOML block")
	}
	return block
}

// addTo appends the README's addition to a config, with its handler where we have one.
func (r *reader) addTo(config, addition, handler string) {
	r.t.Helper()
	text := strings.ReplaceAll(addition, "/opt/orders/handler.py", handler)
	if text == addition {
		r.t.Fatalf("the README's addition does not name /opt/orders/handler.py:\n%s", addition)
	}
	if err := r.write(step{file: config, appended: true, text: "\n" + text}); err != nil {
		r.t.Fatal(err)
	}
}

// minimal copies the README's handler to where the reader can read it.
func (r *reader) minimal() string {
	r.t.Helper()
	text, err := os.ReadFile("../../examples/minimal.py")
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.write(step{file: "minimal.py", text: string(text)}); err != nil {
		r.t.Fatal(err)
	}
	return filepath.Join(r.dir, "minimal.py")
}

const readme = "../../README.md"

func TestREADMEsAdditionIsValidOnEveryNodeOfInit(t *testing.T) {
	r := newReader(t)
	part := section(t, readme, "Run it on three boxes")
	handler := r.minimal()
	at := slices.IndexFunc(typed(part), func(c string) bool { return strings.HasPrefix(c, "leasehold init ") })
	if at < 0 {
		t.Fatal("the README does not show init")
	}
	if err := r.run(step{command: typed(part)[at], output: []string{"…", "site/n1…", "…"}}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"n1", "n2", "n3"} {
		config := "site/" + n + "/config.toml"
		r.addTo(config, pasted(t, part), handler)
		if err := r.run(step{command: "leasehold config validate --offline " + config,
			output: []string{"✓ " + config + "…", "…"}}); err != nil {
			t.Error(err)
		}
	}
}

func TestREADMEsCommandsWorkOnOneNode(t *testing.T) {
	r := newReader(t)
	part := section(t, readme, "Run it on three boxes")
	steps := []step{
		{command: "leasehold init --single", output: []string{"…"}},
		{file: "orders.ndjson", text: `{"id": "a-1", "customer": "c-1", "total": 3}` + "\n" +
			`{"id": "a-2", "customer": "c-2", "total": 4}` + "\n"},
	}
	r.follow("before", steps)
	r.addTo("config.toml", pasted(t, part), r.minimal())
	r.follow("start", []step{
		{terminal: "agent", command: "leasehold agent --config config.toml", output: []string{"…", "…node is ready…"}},
		{command: "leasehold status --until-idle", output: []string{"…", "OK: …billing 0…", "…"}},
	})
	ran := 0
	for _, command := range typed(part) {
		switch {
		case strings.HasPrefix(command, "leasehold init"):
			continue
		case strings.HasPrefix(command, "curl ") && !has("curl"):
			t.Log("not run, there is no curl: " + command)
			continue
		}
		ran++
		command = strings.Replace(command, " --follow", "", 1) // It would never end.
		command = strings.Replace(command, "/var/lib/leasehold/", "data/", 1)
		out, err := r.shell(command).CombinedOutput()
		fmt.Fprintf(r.seen, "$ %s\n%s", command, out)
		if err != nil {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
	}
	if ran < 5 {
		t.Errorf("only %d commands of the README ran", ran)
	}
	r.follow("after", []step{{command: "leasehold status --until-idle", output: []string{"…", "OK: …billing 0…", "…"}}})
}

func has(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// TestMakeAsksWhichNode: without N the target was about a node "n".
func TestMakeAsksWhichNode(t *testing.T) {
	for _, target := range []string{"cluster-kill", "cluster-start"} {
		for _, n := range []string{"", "N=", "N= "} {
			cmd := exec.Command("make", strings.Fields(target+" "+n)...)
			cmd.Dir = "../.."
			out, err := cmd.CombinedOutput()
			if want := "Give its number: make " + target + " N=2"; err == nil || !strings.Contains(string(out), want) {
				t.Errorf("make %s %q: %v, no %q in\n%s", target, n, err, want, out)
			}
		}
	}
}
