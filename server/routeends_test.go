package server_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"leasehold/server"
	"leasehold/server/servertest"
)

// brokerToKill is set for the copy of this test's process that is a broker to be killed: its directory and its peers.
const brokerToKill = "LEASEHOLD_BROKER_TO_KILL"

// TestBrokerToKill is that broker, until its standard input ends.
func TestBrokerToKill(t *testing.T) {
	spec := strings.Fields(os.Getenv(brokerToKill))
	if len(spec) != 4 {
		t.Skip("this is the process that TestRouteEndings kills")
	}
	o := servertest.ClusterOptions(t, 3)[2]
	o.Path, o.Peers, o.ClusterListen = spec[0], nil, spec[3]
	for i, address := range spec[1:] {
		o.Peers = append(o.Peers, server.Peer{Name: fmt.Sprintf("n%d", i+1), Address: address})
	}
	fmt.Printf("\nserver id %s\n", servertest.Start(t, o).ID())
	_, _ = os.Stdin.Read(make([]byte, 1))
}

// victim is a broker in a process of its own.
type victim struct {
	*exec.Cmd
	id string
}

func startVictim(t *testing.T, o servertest.Options) victim {
	t.Helper()
	v := victim{Cmd: exec.Command(os.Args[0], "-test.run", "^TestBrokerToKill$")}
	v.Env = append(os.Environ(), "TMPDIR="+t.TempDir(), // a killed test cleans nothing up
		fmt.Sprintf("%s=%s %s %s %s", brokerToKill, o.Path, o.Peers[0].Address, o.Peers[1].Address, o.Peers[2].Address))
	in, err1 := v.StdinPipe()
	out, err2 := v.StdoutPipe()
	if err := errors.Join(err1, err2, v.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); v.kill() })
	lines := bufio.NewScanner(out)
	for v.id == "" && lines.Scan() {
		v.id, _ = strings.CutPrefix(lines.Text(), "server id ")
		if v.id == lines.Text() {
			v.id = ""
		}
	}
	if v.id == "" {
		t.Fatal("the broker to kill did not start")
	}
	return v
}

func (v victim) signal(s os.Signal) { _ = v.Process.Signal(s) }

func (v victim) kill() {
	v.signal(syscall.SIGKILL)
	_ = v.Wait()
}

// waitRoutes waits until each has a route to a process, or none has.
func waitRoutes(t *testing.T, nodes []*servertest.Node, id string, want bool) {
	t.Helper()
	servertest.Eventually(t, servertest.ReadyLimit, func() error {
		for _, n := range nodes {
			if n.HasRoute(id) != want {
				return fmt.Errorf("%s: route to n3: %v, want %v", n.Options.Node, !want, want)
			}
		}
		return nil
	})
}

// wantEndings waits until each tells of the end of a process, if it should, and of no other.
func wantEndings(t *testing.T, nodes []*servertest.Node, id string) {
	t.Helper()
	waitRoutes(t, nodes, id, false)
	for _, n := range nodes {
		select {
		case e := <-n.Endings():
			if e.ServerID != id || e.Node != "n3" || time.Since(e.At) > time.Minute {
				t.Errorf("%s tells of %+v, want n3's process %s", n.Options.Node, e, id)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s does not tell of the end of n3", n.Options.Node)
		}
	}
	wantNoEnding(t, nodes)
}

func wantNoEnding(t *testing.T, nodes []*servertest.Node) {
	t.Helper()
	for _, n := range nodes {
		select {
		case e := <-n.Endings():
			t.Errorf("%s tells of the end of %+v", n.Options.Node, e)
		default:
		}
	}
}

// TestRouteEndings has a real broker end in every way that others may see. At a start all of them dial each other, and
// the routes that are one too many are closed again.
func TestRouteEndings(t *testing.T) {
	t.Parallel()
	options := servertest.ClusterOptions(t, 3)
	nodes := []*servertest.Node{servertest.Start(t, options[0]), servertest.Start(t, options[1])}
	started := func() victim {
		v := startVictim(t, options[2])
		waitRoutes(t, nodes, v.id, true)
		pause(t, 3*time.Second) // until routes that are one too many are closed
		wantNoEnding(t, nodes)
		return v
	}

	v := started()
	v.kill()
	wantEndings(t, nodes, v.id)

	v = started() // killed with data unread: its kernel resets the connections
	v.signal(syscall.SIGSTOP)
	pause(t, 2*time.Second)
	wantNoEnding(t, nodes)
	v.kill()
	wantEndings(t, nodes, v.id)

	v = started() // it does not answer any more, and the others close the routes
	v.signal(syscall.SIGSTOP)
	waitRoutes(t, nodes, v.id, false)
	v.kill()
	pause(t, time.Second)
	wantNoEnding(t, nodes)

	n3 := servertest.Start(t, options[2])
	waitRoutes(t, nodes, n3.ID(), true)
	pause(t, 3*time.Second)
	if err := n3.Stop(); err != nil {
		t.Error(err)
	}
	wantEndings(t, nodes, n3.ID()) // in order: what that means is not for this package to say
}

// TestTheLastRouteIsTold: the node that is left alone hears of it, and not before.
func TestTheLastRouteIsTold(t *testing.T) {
	t.Parallel()
	options := servertest.ClusterOptions(t, 3)
	cut := make(chan struct{}, 100)
	options[0].CutOff = func() { cut <- struct{}{} }
	n1, n2, n3 := servertest.Start(t, options[0]), servertest.Start(t, options[1]), servertest.Start(t, options[2])
	waitRoutes(t, []*servertest.Node{n1}, n2.ID(), true)
	waitRoutes(t, []*servertest.Node{n1}, n3.ID(), true)
	pause(t, 3*time.Second)
	for len(cut) > 0 { // at the start, routes come and go
		<-cut
	}
	_ = n2.Stop()
	pause(t, time.Second)
	if len(cut) > 0 {
		t.Error("n1 is told that it is alone while it has a route to n3")
	}
	_ = n3.Stop()
	select {
	case <-cut:
	case <-time.After(10 * time.Second):
		t.Error("n1 is not told that it is alone")
	}
}

// pause lets time pass in which nothing must happen.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	<-time.NewTimer(d).C
}
