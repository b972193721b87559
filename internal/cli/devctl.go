package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/cli/screen"
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
				return purgeDev(nodes)
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "remove what the nodes stored and the handlers wrote to DIR/out")
	return cmd
}

func (a *App) stopAndTell(nodes []devNode) {
	stopped, killed := stopAll(nodes)
	if len(stopped) == 0 {
		fmt.Fprintln(a.Out, "no node was running")
		return
	}
	fmt.Fprintln(a.Out, "stopped", strings.Join(stopped, ", "))
	if len(killed) > 0 {
		fmt.Fprintf(a.Err, "Warning: %s did not stop in %s and had to be killed\n", strings.Join(killed, ", "), stopLimit)
	}
}

// purgeDev removes what belongs to the cluster, and its directory only if nothing else is in it.
func purgeDev(nodes []devNode) error {
	dir := filepath.Dir(nodes[0].dir)
	doomed := []string{filepath.Join(dir, outName)}
	for _, n := range nodes {
		doomed = append(doomed, n.dir)
	}
	for _, path := range doomed {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("purge: %w", err)
		}
	}
	_ = os.Remove(dir) // Fails if a user's own files are there; they stay.
	return nil
}

func (a *App) devKillCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:     "kill NODE",
		Short:   "Kill a node with SIGKILL to see the others take over",
		Example: "  leasehold dev kill n2 --dir /tmp/demo",
		Args:    cobra.ExactArgs(1),
		RunE: action(func(_ *cobra.Command, args []string) error {
			n, err := findDevNode(*dir, args[0])
			if err != nil {
				return err
			}
			pid, running := n.pid()
			if !running {
				return failure(exitFailed, "start it with `leasehold dev start "+n.name+"`", "node %s is not running", n.name)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				return fmt.Errorf("kill node %s: %w", n.name, err)
			}
			if !n.gone(stopLimit) {
				return failure(exitTimeout, "", "node %s (pid %d) is still there after %s", n.name, pid, stopLimit)
			}
			fmt.Fprintf(a.Out, "killed %s (pid %d)\n", n.name, pid)
			return nil
		}),
	}
}

func (a *App) devStartCommand(dir *string) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "start NODE",
		Short:   "Start a node again and wait until it is ready",
		Example: "  leasehold dev start n2 --dir /tmp/demo",
		Args:    cobra.ExactArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			n, err := findDevNode(*dir, args[0])
			if err != nil {
				return err
			}
			if pid, running := n.pid(); running {
				return failure(exitFailed, "", "node %s runs already (pid %d)", n.name, pid)
			}
			if err := n.launch(nil, true); err != nil {
				return err
			}
			if err := a.waitReady(cmd.Context(), []devNode{n}, timeout); err != nil {
				return err // It goes on starting: it may only be waiting for others.
			}
			fmt.Fprintf(a.Out, "%s is ready\n", n.name)
			return nil
		}),
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "how long to wait until it is ready")
	return cmd
}

// printClusterOf adds the cluster's status, as the first node that can tell sees it.
func (a *App) printClusterOf(cmd *cobra.Command, nodes []devNode) error {
	for _, n := range nodes {
		s, err := api.NewClient(n.socket()).Status(cmd.Context())
		if err != nil {
			continue
		}
		fmt.Fprintln(a.Out)
		return a.printStatus(s, statusFlags{format: formatTable})
	}
	return nil
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
		Long: "Shows the processes, then what the first node that answers says about the cluster. -o json has the processes\n" +
			"only; `leasehold status --config DIR/n1/config.toml -o json` has the cluster.",
		Example: "  leasehold dev status --dir /tmp/demo\n  leasehold dev status -o json",
		Args:    cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			nodes, err := devNodes(*dir)
			if err != nil {
				return err
			}
			states := make([]devState, len(nodes))
			for i, n := range nodes {
				states[i] = n.state(cmd)
			}
			if err := a.printDevStates(states, format); err != nil || format == formatJSON {
				return err
			}
			return a.printClusterOf(cmd, nodes)
		}),
	}
	addOutput(cmd, &format)
	return cmd
}

func (n devNode) state(cmd *cobra.Command) devState {
	s := devState{Node: n.name, Reasons: []string{}, Config: n.config(), Log: n.logFile()}
	if s.PID, s.Running = n.pid(); !s.Running {
		s.PID = 0
		return s
	}
	reasons, err := api.NewClient(n.socket()).Ready(cmd.Context())
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
		rows = append(rows, table.Row{s.Node, runText(s), strings.Join(s.Reasons, ", "), s.Config, s.Log})
	}
	return printTable(a.Out, table.Row{"node", "state", screen.Whole("waits for"), screen.Whole("config"), screen.Whole("log")}, rows)
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
