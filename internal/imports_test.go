// Package internal holds the tests of what may import what, and of the documentation's links.
package internal

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

type listed struct {
	ImportPath string
	Imports    []string
}

// imports lists the module's packages with what their non-test code imports.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "leasehold/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string][]string{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p.Imports
	}
}

func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// rooms are the four packages that own a noun each.
var rooms = []string{"leasehold/server", "leasehold/cluster", "leasehold/partitioner", "leasehold/worker"}

func TestRoomsDoNotImportOneAnother(t *testing.T) {
	for pkg, deps := range imports(t) {
		for _, room := range rooms {
			if !under(pkg, room) {
				continue
			}
			for _, dep := range deps {
				foreign := slices.ContainsFunc(rooms, func(r string) bool { return r != room && under(dep, r) })
				if room == "leasehold/worker" && dep == "leasehold/partitioner" {
					foreign = false
				}
				if foreign || under(dep, "leasehold/internal/config") || under(dep, "leasehold/internal/node") {
					t.Errorf("%s imports %s", pkg, dep)
				}
			}
		}
	}
}

func TestDecisionsArePure(t *testing.T) {
	pure := []string{"cmp", "errors", "fmt", "slices", "strings", "time", "maps", "sort", "math", "leasehold/cluster/plan", "leasehold/internal/ownership"}
	all := imports(t)
	for _, pkg := range []string{"leasehold/cluster/plan", "leasehold/cluster/lease"} {
		if len(all[pkg]) == 0 {
			t.Errorf("%s is not there", pkg)
		}
		for _, dep := range all[pkg] {
			if !slices.Contains(pure, dep) {
				t.Errorf("%s imports %s", pkg, dep)
			}
		}
	}
}

// TestDecisionsHoldNoClock: time is for durations there; whoever asks it what time it is, is not pure.
func TestDecisionsHoldNoClock(t *testing.T) {
	out, err := exec.Command("grep", "-rnE", `time\.(Now|Since|Until|Sleep|After|NewTimer|NewTicker|Tick)\b`,
		"../cluster/plan", "../cluster/lease", "--include=*.go").CombinedOutput()
	if err == nil {
		t.Errorf("the pure packages look at the clock:\n%s", out)
	}
}
