package cli

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"leasehold/internal/config"
)

// taken is an address at which this process listens.
func taken(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// runningNode is the config of a node whose agent answers as node name of its cluster and says where it listens.
func runningNode(t *testing.T, name, own, other string, listen ...string) string {
	t.Helper()
	dir := t.TempDir()
	s := healthy()
	s.Node, s.Cluster, s.Listen = name, "plant-7", listen
	writeFile(t, filepath.Join(dir, "data", "x"), "")
	if err := os.Symlink(agent(t, &fakeSource{status: s}), filepath.Join(dir, "data", config.SocketName)); err != nil {
		t.Fatal(err)
	}
	return writeFile(t, filepath.Join(dir, "c.toml"),
		fmt.Sprintf("[node]\nname = \"n1\"\ndata_dir = \"data\"\n[cluster]\nname = \"plant-7\"\n"+
			"[server]\nlisten = %q\n[http]\nlisten = %q\n", own, other))
}

func TestValidateKnowsThePortsOfItsOwnRunningNode(t *testing.T) {
	a, b := taken(t), taken(t)
	_, port, _ := net.SplitHostPort(b)
	run(t, "config", "validate", runningNode(t, "n1", a, b, a, "localhost:"+port)).
		want(t, exitOK, "✓ server.listen free: "+a+", held by this node's own agent", "✓ http.listen free: "+b)
	self := fmt.Sprintf("%s is in use by cli.test (pid %d)", b, os.Getpid())
	for name, file := range map[string]string{
		"another program": runningNode(t, "n1", a, b, a),
		"another node":    runningNode(t, "n2", a, b, a, b),
		"no list":         runningNode(t, "n1", a, b),
		"no agent running": writeFile(t, filepath.Join(t.TempDir(), "c.toml"),
			fmt.Sprintf("[node]\nname = \"n1\"\ndata_dir = \"d\"\n[http]\nlisten = %q\n", b)),
	} {
		if r := run(t, "config", "validate", file); r.code != exitUsage ||
			!strings.Contains(r.out, "✗ http.listen free: "+self) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
