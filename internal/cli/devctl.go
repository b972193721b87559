package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/cli/screen"
	"leasehold/internal/config"
	"leasehold/internal/devcluster"
)

func (a *App) devDownCommand(dir *string) *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use:     "down",
		Short:   "Stop all nodes; with --purge, delete their data",
		Example: "  leasehold dev down --dir /tmp/demo\n  leasehold dev down --dir /tmp/demo --purge",
		Args:    cobra.NoArgs,
		RunE: action(func(*cobra.Command, []string) error {
			nodes, err := devNodes(*dir)
			if err != nil {
				return err
			}
			a.stopAndTell(nodes)
			if purge {
				return a.purgeDev(nodes)
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&purge, "purge", false,
		"remove the nodes' directories (a config that you edited stays) and what handlers wrote to DIR/out")
	return cmd
}

func (a *App) stopAndTell(nodes []devcluster.Node) {
	stopped, killed := devcluster.StopAll(nodes)
	if len(stopped) == 0 {
		fmt.Fprintln(a.Out, "no node was running")
		return
	}
	fmt.Fprintln(a.Out, "stopped", strings.Join(stopped, ", "))
	if len(killed) > 0 {
		fmt.Fprintf(a.Err, "Warning: %s did not stop within %s and had to be killed\n", strings.Join(killed, ", "),
			devcluster.StopLimit)
	}
}

// purgeDev removes what belongs to the cluster, and its directory only if nothing else is in it.
func (a *App) purgeDev(nodes []devcluster.Node) error {
	dir := filepath.Dir(nodes[0].Dir)
	record, err := readDevRecord(dir)
	if err != nil {
		return err
	}
	doomed, kept := []string{filepath.Join(dir, outName)}, false
	for _, n := range nodes {
		text, err := os.ReadFile(n.Config())
		if err != nil || digest(string(text)) == record.Written[n.Name] {
			doomed = append(doomed, n.Dir)
			continue
		}
		kept = true
		doomed = append(doomed, storedFiles(n)...)
		fmt.Fprintf(a.Err, "kept %s, which was edited; remove it yourself if it is not needed\n", shortPath(n.Config()))
	}
	if !kept {
		doomed = append(doomed, filepath.Join(dir, recordFile), filepath.Join(dir, devcluster.LockFile))
	}
	for _, path := range doomed {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("purge: %w", err)
		}
	}
	_ = os.Remove(dir) // Fails if a user's own files are there; they stay.
	fmt.Fprintf(a.Out, "removed the data of %s in %s\n", count(len(nodes), "node"), shortPath(dir))
	return nil
}

// storedFiles lists what is in the node's directory besides its config.
func storedFiles(n devcluster.Node) (paths []string) {
	entries, _ := os.ReadDir(n.Dir) // What cannot be listed cannot be removed either.
	for _, e := range entries {
		if e.Name() != config.FileName {
			paths = append(paths, filepath.Join(n.Dir, e.Name()))
		}
	}
	return paths
}

func (a *App) devKillCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:               "kill NODE",
		Short:             "Kill a node with SIGKILL to see the others take over",
		Example:           "  leasehold dev kill n2 --dir /tmp/demo",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: first(devNodeNames(dir)),
		RunE: action(func(_ *cobra.Command, args []string) error {
			n, err := a.findDevNode(*dir, args[0])
			if err != nil {
				return err
			}
			pid, running := n.PID()
			if !running {
				return failure(exitFailed, "start it with `"+a.devLine(*dir, "start", n.Name)+"`", "node %s is not running", n.Name)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				return fmt.Errorf("kill node %s: %w", n.Name, err)
			}
			if !n.Gone(devcluster.StopLimit) {
				return failure(exitTimeout, "", "node %s (pid %d) is still there after %s", n.Name, pid, devcluster.StopLimit)
			}
			fmt.Fprintf(a.Out, "killed %s (pid %d)\n", n.Name, pid)
			return nil
		}),
	}
}

func (a *App) devStartCommand(dir *string) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:               "start NODE",
		Short:             "Start a node again and wait until it is ready",
		Example:           "  leasehold dev start n2 --dir /tmp/demo",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: first(devNodeNames(dir)),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			n, err := a.findDevNode(*dir, args[0])
			if err != nil {
				return err
			}
			if pid, running := n.PID(); running {
				return failure(exitFailed, "", "node %s is already running (pid %d)", n.Name, pid)
			}
			if err := relaunch(n); err != nil {
				return err
			}
			if err := a.waitReady(cmd.Context(), []devcluster.Node{n}, timeout); err != nil {
				return err // The node keeps starting: it may only be waiting for others.
			}
			fmt.Fprintf(a.Out, "%s is ready\n", n.Name)
			return nil
		}),
	}
	limitVar(cmd, &timeout, "timeout", 2*time.Minute, "how long to wait until it is ready")
	return cmd
}

// relaunch starts a stopped node alone, detached from this process.
func relaunch(n devcluster.Node) error {
	unlock, err := lockDev(filepath.Dir(n.Dir))
	if err != nil {
		return err
	}
	defer unlock()
	return n.Launch(nil, true)
}

// clusterOf is the cluster's status as the first node that can tell sees it, nil if none can.
func clusterOf(ctx context.Context, nodes []devcluster.Node) *api.Status {
	for _, n := range nodes {
		if s, err := api.NewClient(n.Socket()).Status(ctx); err == nil {
			return s
		}
	}
	return nil
}

// devVerdict is the error of a cluster that is not well; nil if it is.
func devVerdict(s *api.Status) error {
	list := []string{"no node answers"}
	if s != nil {
		list = problems(s)
	}
	if len(list) == 0 {
		return nil
	}
	return &Error{Code: exitUnhealthy, Err: errors.New(strings.Join(list, "; ")), Shown: true}
}

// devState is a node in `dev status`.
type devState struct {
	Node    string   `json:"node"`
	Running bool     `json:"running"`
	PID     int      `json:"pid,omitempty"`
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"` // What it waits for.
	Config  string   `json:"config"`
	Log     string   `json:"log"`
}

func (a *App) devStatusCommand(dir *string) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the nodes' processes and the cluster's health",
		Long: "Shows the processes, then what the first node that answers says about the cluster. -o json has the " +
			"processes\n" +
			"only; `leasehold status --config DIR/n1/config.toml -o json` has the cluster. Exit code 10 if it is not well.",
		Example: "  leasehold dev status --dir /tmp/demo\n  leasehold dev status -o json",
		Args:    cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			nodes, err := devNodes(*dir)
			if err != nil {
				return err
			}
			return a.runDevStatus(cmd.Context(), nodes, format)
		}),
	}
	addOutput(cmd, &format)
	return cmd
}

func (a *App) runDevStatus(ctx context.Context, nodes []devcluster.Node, format string) error {
	states := make([]devState, len(nodes))
	for i, n := range nodes {
		states[i] = stateOf(ctx, n)
	}
	if err := a.printDevStates(states, format); err != nil {
		return err
	}
	s := clusterOf(ctx, nodes)
	if format == formatJSON {
		return devVerdict(s)
	}
	fmt.Fprintln(a.Out)
	if s == nil {
		fmt.Fprintln(a.Out, "NOT OK: no node answers")
	} else if err := a.printStatus(s, statusFlags{format: formatTable}); err != nil {
		return err
	}
	return devVerdict(s)
}

func stateOf(ctx context.Context, n devcluster.Node) devState {
	s := devState{Node: n.Name, Reasons: []string{}, Config: n.Config(), Log: n.LogFile()}
	if s.PID, s.Running = n.PID(); !s.Running {
		s.PID = 0
		return s
	}
	reasons, err := api.NewClient(n.Socket()).Ready(ctx)
	if err != nil {
		reasons = []string{"its own start"}
	}
	s.Ready = len(reasons) == 0
	s.Reasons = append(s.Reasons, reasons...)
	return s
}

func (a *App) printDevStates(states []devState, format string) error {
	if format == formatJSON {
		return printJSON(a.Out, states)
	}
	rows := make([]table.Row, 0, len(states))
	for _, s := range states {
		rows = append(rows, table.Row{s.Node, runText(s), strings.Join(s.Reasons, ", "), shortPath(s.Config),
			shortPath(s.Log)})
	}
	return printTable(a.Out, table.Row{"node", "state", screen.Whole("waits for"), screen.Whole("config"),
		screen.Whole("log")}, rows)
}

func runText(s devState) string {
	switch {
	case !s.Running:
		return "stopped"
	case s.Ready:
		return fmt.Sprintf("ready (pid %d)", s.PID)
	}
	return fmt.Sprintf("starting (pid %d)", s.PID)
}

// devNodes finds the nodes in a directory.
func devNodes(typed string) ([]devcluster.Node, error) {
	dir, err := filepath.Abs(typed)
	if err != nil {
		return nil, err
	}
	nodes, err := devcluster.Nodes(dir)
	if err == nil && len(nodes) == 0 {
		err = failure(exitNotFound, "start one with `leasehold dev"+dirFlag(typed)+"`, or name its directory with --dir",
			"there is no dev cluster in %s", shortPath(dir))
	}
	return nodes, err
}

func (a *App) findDevNode(dir, name string) (devcluster.Node, error) {
	nodes, err := devNodes(dir)
	if err != nil {
		return devcluster.Node{}, err
	}
	i := slices.IndexFunc(nodes, func(n devcluster.Node) bool { return n.Name == name })
	if i < 0 {
		var names []string
		for _, n := range nodes {
			names = append(names, n.Name)
		}
		return devcluster.Node{}, failure(exitNotFound, "name one of "+strings.Join(names, ", "), "there is no node %q in %s",
			name, dir)
	}
	return nodes[i], nil
}

// refuseRunning protects a cluster that runs from being given new configs.
func (a *App) refuseRunning(dir string) error {
	nodes, err := devNodes(dir)
	if err != nil {
		return nil // There is none yet.
	}
	for _, n := range nodes {
		if pid, running := n.PID(); running {
			return failure(exitFailed, "stop it with `"+a.devLine(dir, "down")+"`, or use another --dir",
				"node %s of %s is already running (pid %d)", n.Name, dir, pid)
		}
	}
	return nil
}
