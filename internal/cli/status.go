package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/cli/screen"
)

type statusFlags struct {
	format     string
	group      string
	partitions bool
	untilIdle  bool
	watch      bool
	timeout    time.Duration
}

func (a *App) statusCommand() *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show cluster health: nodes, topics, groups, partitions",
		Long: "The first line says OK or NOT OK and why; \"Next:\" says what to do. Exit code 10 if something needs " +
			"attention: no quorum,\n" +
			"a node that is not live, short of disk space or with a damaged replica, or a partition without owner or progress.",
		Example: "  leasehold status\n  leasehold status --partitions\n  leasehold status -o json | jq '.groups[].lag'\n" +
			"  leasehold status --group billing\n  leasehold status --until-idle --timeout 5m\n  leasehold status --watch",
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			return a.runStatus(cmd, f)
		}),
	}
	addTable(cmd, &f.format)
	cmd.Flags().BoolVar(&f.partitions, "partitions", false, "show every partition of every group")
	cmd.Flags().Var(word{&f.group}, "group",
		"show only this group and its partitions; the exit code is still the cluster's")
	_ = cmd.RegisterFlagCompletionFunc("group", a.completeGroup)
	cmd.Flags().BoolVar(&f.untilIdle, "until-idle", false,
		"wait until every group has processed everything and every partition has an owner")
	cmd.Flags().BoolVar(&f.watch, "watch", false, "refresh every second until ^C; with -o json one document per line")
	cmd.MarkFlagsMutuallyExclusive("watch", "until-idle")
	limitVar(cmd, &f.timeout, "timeout", 2*time.Minute, "give up after this long, with exit code 6")
	cmd.MarkFlagsMutuallyExclusive("watch", "timeout")
	cmd.MarkFlagsMutuallyExclusive("watch", "group")
	return cmd
}

func (a *App) runStatus(cmd *cobra.Command, f statusFlags) error {
	client, err := a.client(cmd)
	if err != nil {
		return err
	}
	if f.watch {
		return a.watchStatus(cmd.Context(), client, f)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	var s *api.Status
	if f.untilIdle {
		s, err = a.waitIdle(cmd.Context(), client, f.timeout)
	} else {
		s, err = client.Status(ctx)
	}
	if err != nil && !f.untilIdle && timedOut(ctx) {
		return failure(exitTimeout, "the agent runs and is overloaded or stuck; see its log", "no status within %s",
			f.timeout)
	}
	if s != nil {
		if err := a.printStatus(s, f); err != nil {
			return err
		}
	}
	if errors.Is(err, api.ErrNotYet) {
		return a.notYet(cmd, client, err)
	}
	if err != nil {
		return err
	}
	if list := problems(s); len(list) > 0 {
		return &Error{Code: exitUnhealthy, Err: errors.New(strings.Join(list, "; ")), Shown: true}
	}
	return nil
}

// notYet adds what a starting node waits for to the refusal of its status.
func (a *App) notYet(cmd *cobra.Command, client *api.Client, err error) error {
	reasons, _ := client.Ready(cmd.Context()) // No reasons is an answer too.
	if len(reasons) == 0 {
		return err
	}
	return failure(exitUnhealthy, "wait for it, or start what it waits for", "%w; it waits for: %s", err,
		strings.Join(reasons, "; "))
}

func (a *App) printStatus(s *api.Status, f statusFlags) error {
	if f.group != "" {
		return a.printGroup(s, f)
	}
	if f.format == formatJSON {
		return printJSON(a.Out, s)
	}
	return writeStatus(screen.Of(a.Out), s, f.partitions)
}

// printGroup shows one group of a status, and all of its partitions.
func (a *App) printGroup(s *api.Status, f statusFlags) error {
	at := slices.IndexFunc(s.Groups, func(g api.Group) bool { return g.Name == f.group })
	if at < 0 {
		return failure(exitNotFound, "`leasehold group list` shows the groups", "there is no group %q", f.group)
	}
	if f.format == formatJSON {
		return printJSON(a.Out, s.Groups[at])
	}
	w, one := screen.Of(a.Out), &api.Status{Groups: s.Groups[at : at+1]}
	found := groupProblems(s.Groups[at])
	if len(found) == 0 {
		_ = w.Say(screen.Green, "OK:", fmt.Sprintf("group %s, every partition owned, lag: %s", f.group,
			lagText(s.Groups[at].Lag)))
	}
	for _, problem := range found {
		_ = w.Say(screen.Red, "NOT OK:", problem) // The last table tells whether writing works.
	}
	for _, step := range groupSteps(s.Groups[at]) {
		_ = w.Say(screen.Strong, "Next:", step)
	}
	return errors.Join(printGroups(w, one), printPartitions(w, one))
}

func writeStatus(w *screen.Writer, s *api.Status, partitions bool) error {
	lead, text, _ := strings.Cut(verdict(s), " ")
	colour := screen.Green
	if lead != "OK:" {
		colour = screen.Red
		lead, text = "NOT OK:", strings.TrimPrefix(text, "OK: ")
	}
	_ = w.Say(colour, lead, text) // The last table tells whether writing works.
	for _, step := range nextSteps(s) {
		_ = w.Say(screen.Strong, "Next:", step)
	}
	if s.Stale != "" {
		_ = w.Say(screen.Yellow, "warning:", s.Stale)
	}
	for _, warning := range s.Warnings {
		_ = w.Say(screen.Yellow, "warning:", warning)
	}
	if err := errors.Join(printNodes(w, s), printTopics(w, s), printGroups(w, s)); err != nil || !partitions {
		return err
	}
	return printPartitions(w, s)
}

// verdict answers "show cluster health" in one line.
func verdict(s *api.Status) string {
	if list := problems(s); len(list) > 0 {
		return "NOT OK: " + strings.Join(list, "; ")
	}
	if len(s.Groups) == 0 {
		return fmt.Sprintf("OK: cluster %s, %s live, no groups", s.Cluster, count(len(s.Nodes), "node"))
	}
	lags := make([]string, len(s.Groups))
	for i, g := range s.Groups {
		lags[i] = g.Name + " " + lagText(g.Lag)
	}
	return fmt.Sprintf("OK: cluster %s, %s live, every partition owned, lag: %s", s.Cluster, count(len(s.Nodes), "node"),
		strings.Join(lags, ", "))
}

// problems lists what makes a cluster unhealthy. A lag does not: it is work to be done.
func problems(s *api.Status) []string {
	var list []string
	if !s.Quorum {
		list = append(list, cmp.Or(s.NoQuorum, "no quorum"))
	}
	if !s.Ready {
		list = append(list, s.Node+" is not ready")
	}
	if s.Stale != "" || !s.Quorum && s.NoQuorum != "" { // The rest is what was known before, or follows from it.
		return list
	}
	for _, n := range s.Nodes {
		switch {
		case n.State != api.NodeLive:
			list = append(list, fmt.Sprintf("%s is %s", n.Name, nodeWord(n.State)))
		case !n.Ready && n.Name != s.Node:
			list = append(list, n.Name+" is not ready")
		}
		if len(n.Damaged) > 0 {
			list = append(list, fmt.Sprintf("%s has damaged copies of %s", n.Name, strings.Join(n.Damaged, ", ")))
		}
		if n.DiskShort {
			list = append(list, n.Name+" is short of disk space, so publishes are refused")
		}
	}
	for _, g := range s.Groups {
		list = append(list, groupProblems(g)...)
	}
	return list
}

func groupProblems(g api.Group) []string {
	var list []string
	if g.Unowned > 0 {
		list = append(list, fmt.Sprintf("group %s: %s without an owner", g.Name, count(g.Unowned, "partition")))
	}
	found := map[string]*trouble{}
	for _, p := range g.Partitions {
		state := troubleOf(p)
		if state == "" {
			continue
		}
		if found[state] == nil {
			found[state] = &trouble{}
		}
		found[state].note(p, cmp.Or(p.Paused, p.Error))
	}
	for _, state := range troubles {
		if t := found[state]; t != nil {
			list = append(list, t.text(g, state))
		}
	}
	return list
}

// trouble counts partitions and says of the first what it is about.
type trouble struct {
	n     int
	first string
}

func (t *trouble) note(p api.Partition, what string) {
	if t.n++; t.n == 1 {
		t.first = strings.TrimSuffix(fmt.Sprintf("partition %d: %s", p.Partition, what), ": ")
	}
}

func (t *trouble) text(g api.Group, state string) string {
	return fmt.Sprintf("group %s: %s %s (%s)", g.Name, count(t.n, "partition"), state, t.first)
}

func printNodes(w *screen.Writer, s *api.Status) error {
	rows := make([]table.Row, 0, len(s.Nodes))
	for _, n := range s.Nodes {
		role := ""
		if n.Name == s.Leader && s.Quorum {
			role = "leader"
		}
		rows = append(rows, table.Row{n.Name, nodeCell(n.State), wantedCell(n.Ready), role, n.Partitions, n.Boot, n.Version,
			n.Address, screen.Stamp(n.LastSeen)})
	}
	return section(w, table.Row{"node", "state", "ready", "role", lastKnown(s, "partitions"), screen.Wide("boot"),
		"version", "address", "last seen"}, rows)
}

func printTopics(w *screen.Writer, s *api.Status) error {
	rows := make([]table.Row, 0, len(s.Topics))
	for _, t := range s.Topics {
		rows = append(rows, table.Row{t.Name, t.Partitions, screen.Number(humanize.Comma(int64(t.Messages))),
			screen.Number(humanize.IBytes(t.Bytes)), t.LastSeq})
	}
	return section(w, table.Row{"topic", "partitions", lastKnown(s, "messages"), "size", "last seq"}, rows)
}

func printGroups(w *screen.Writer, s *api.Status) error {
	rows := make([]table.Row, 0, len(s.Groups))
	for _, g := range s.Groups {
		rows = append(rows, table.Row{g.Name, g.Topic, lagCell(g.Lag), countCell(g.Unowned, screen.Red),
			countCell(g.DeadLetters, screen.Yellow), owners(g)})
	}
	return section(w, table.Row{"group", "topic", "lag", "unowned", "dead letters", lastKnown(s, "partitions by node")},
		rows)
}

// lastKnown marks a column whose facts may not be true any more.
func lastKnown(s *api.Status, header string) string {
	if s.Stale == "" {
		return header
	}
	return header + " (last known)"
}

// owners counts a group's partitions by their owner: "n1 22, n2 21, n3 21".
func owners(g api.Group) string {
	counts := map[string]int{}
	for _, p := range g.Partitions {
		if p.Owner != "" {
			counts[p.Owner]++
		}
	}
	return countsText(counts)
}

func printPartitions(w *screen.Writer, s *api.Status) (err error) {
	for _, g := range s.Groups {
		rows := make([]table.Row, 0, len(g.Partitions))
		for _, p := range g.Partitions {
			rows = append(rows, table.Row{g.Name, p.Partition, p.Owner, p.Boot, p.Epoch, laneCell(p), p.Done, lagCell(p.Lag),
				p.Attempt, screen.Stamp(p.RetryAt), whyStopped(p)})
		}
		err = errors.Join(err, section(w, table.Row{
			"group", "partition", "owner", screen.Wide("boot"), "epoch", "state", "done", "lag", "attempt", screen.Wide("retry"),
			screen.Whole("error"),
		}, rows))
	}
	return err
}

// section prints a table with an empty line before it, or nothing if there is nothing to say.
func section(w io.Writer, header table.Row, rows []table.Row) error {
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return printTable(w, header, rows)
}

// whyStopped is why a partition makes no progress, empty if it does.
func whyStopped(p api.Partition) string {
	if p.Paused != "" {
		return "paused: " + p.Paused
	}
	return p.Error
}

func lagText(lag *int64) string {
	if lag == nil {
		return "unknown"
	}
	return humanize.Comma(*lag)
}

func lagCell(lag *int64) screen.Number { return screen.Number(lagText(lag)) }

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
