package cli

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/cli/screen"
)

func (a *App) contextCommand() *cobra.Command {
	return group("context", "Manage named agents: an address with its token and CA", a.contextAddCommand(),
		a.contextListCommand(), a.contextUseCommand(), a.contextUnselectCommand(), a.contextShowCommand(),
		a.contextRemoveCommand())
}

func (a *App) contextAddCommand() *cobra.Command {
	var use, replace bool
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Save an agent's address, token file and CA under a name",
		Long: "Saves --addr, --token-file and --tls-ca under NAME in your configuration directory. The files themselves " +
			"are not\n" +
			"copied. With --use the context is used from now on by every command that names no agent.",
		Example: "  leasehold context add plant-7 --addr https://10.0.0.11:8222 --token-file ./plant-7.token --tls-ca " +
			"./plant-7-ca.pem\n" +
			"  leasehold context add here --addr ./leasehold-dev/n1/data/leasehold.sock --use",
		Args: cobra.ExactArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			return a.runContextAdd(cmd, args[0], use, replace)
		}),
	}
	cmd.Flags().BoolVar(&use, "use", false, "use it from now on")
	cmd.Flags().BoolVar(&replace, "replace", false, "replace a context of this name")
	return cmd
}

func (a *App) runContextAdd(cmd *cobra.Command, name string, use, replace bool) error {
	c, err := a.contextOf(cmd)
	if err != nil {
		return err
	}
	if err := writeContext(name, c, replace); err != nil {
		return err
	}
	if use {
		if err := useContext(name); err != nil {
			return err
		}
	}
	fmt.Fprintf(a.Out, "saved context %s: %s\n", name, c.Addr)
	if !use {
		return screen.Of(a.Out).Tell(fmt.Sprintf("Use it with `leasehold context use %s`, or once with --context %s", name,
			name))
	}
	return nil
}

// contextOf is the context that the flags describe. Variables of the environment are left out: they belong to the
// agent that they were set for.
func (a *App) contextOf(cmd *cobra.Command) (agentContext, error) {
	var c agentContext
	if !changed(cmd, "addr") {
		return c, usage("--addr is missing: give the address to save")
	}
	if err := checkAddr("--addr", a.addr); err != nil {
		return c, err
	}
	if !changed(cmd, "token-file") {
		a.tokenFile = ""
	}
	if !changed(cmd, "tls-ca") {
		a.caFile = ""
	}
	if _, err := a.nodeClient(a.addr); err != nil { // Reads the token and the CA.
		return c, err
	}
	c = agentContext{Addr: a.addr, TokenFile: a.tokenFile, TLSCA: a.caFile}
	paths := []*string{&c.TokenFile, &c.TLSCA}
	if api.IsSocket(c.Addr) {
		paths = append(paths, &c.Addr)
	}
	for _, path := range paths {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return c, err
		}
	}
	return c, nil
}

// contextRow is a context in `context list` and `context show`.
type contextRow struct {
	Name    string `json:"name"`
	Current bool   `json:"current"`
	agentContext
}

func (a *App) contextListCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the contexts; * marks the one in use",
		Example: "  leasehold context list",
		Args:    cobra.NoArgs,
		RunE: action(func(*cobra.Command, []string) error {
			list, err := listContexts()
			if err != nil {
				return err
			}
			return a.printContexts(list, format)
		}),
	}
	addOutput(cmd, &format)
	return cmd
}

func (a *App) printContexts(list []contextRow, format string) error {
	if format == formatJSON {
		return printJSON(a.Out, list)
	}
	if len(list) == 0 {
		return screen.Of(a.Out).Tell("There are no contexts. Add one with `leasehold context add NAME --addr ADDRESS`")
	}
	rows := make([][]any, 0, len(list))
	for _, c := range list {
		mark := ""
		if c.Current {
			mark = "*"
		}
		rows = append(rows, []any{mark, c.Name, c.Addr, c.TokenFile, c.TLSCA})
	}
	return screen.Of(a.Out).Table([]any{"", "name", "address", "token file", "CA"}, rows)
}

func (a *App) contextUseCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "use NAME",
		Short:             "Use a context for every command that names no agent",
		Example:           "  leasehold context use plant-7",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: first(completeContext),
		RunE: action(func(_ *cobra.Command, args []string) error {
			c, err := readContext(args[0])
			if err != nil {
				return err
			}
			if err := useContext(args[0]); err != nil {
				return err
			}
			fmt.Fprintf(a.Out, "using context %s: %s\n", args[0], c.Addr)
			return nil
		}),
	}
}

func (a *App) contextUnselectCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "unselect",
		Short:   "Use no context: find the agent by the current directory and this machine again",
		Example: "  leasehold context unselect",
		Args:    cobra.NoArgs,
		RunE: action(func(*cobra.Command, []string) error {
			if err := useContext(""); err != nil {
				return err
			}
			fmt.Fprintln(a.Out, "no context is in use")
			return nil
		}),
	}
}

func (a *App) contextShowCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:               "show [NAME]",
		Short:             "Show a context: the named one, or the one in use",
		Example:           "  leasehold context show\n  leasehold context show plant-7 -o json",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: first(completeContext),
		RunE: action(func(_ *cobra.Command, args []string) error {
			return a.runContextShow(args, format)
		}),
	}
	addOutput(cmd, &format)
	return cmd
}

func (a *App) runContextShow(args []string, format string) error {
	current, _, err := currentContext()
	if err != nil {
		return err
	}
	name := current
	if len(args) == 1 {
		name = args[0]
	}
	if name == "" {
		return failure(exitNotFound, "choose one with `leasehold context use NAME`", "no context is in use")
	}
	c, err := readContext(name)
	if err != nil {
		return err
	}
	row := contextRow{Name: name, Current: name == current, agentContext: c}
	if format == formatJSON {
		return printJSON(a.Out, row)
	}
	return a.printContexts([]contextRow{row}, format)
}

func (a *App) contextRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "remove NAME",
		Short:             "Remove a context; its token and CA files stay",
		Example:           "  leasehold context remove plant-7",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: first(completeContext),
		RunE: action(func(_ *cobra.Command, args []string) error {
			if err := removeContext(args[0]); err != nil {
				return err
			}
			fmt.Fprintf(a.Out, "removed context %s\n", args[0])
			return nil
		}),
	}
}

func completeContext(*cobra.Command) (names []string) {
	list, err := listContexts()
	if err != nil {
		return nil
	}
	for _, c := range list {
		names = append(names, c.Name)
	}
	return names
}

// contextAgent is the agent of a context. A context brings its own token and CA, which only flags replace: those of the
// environment may be for another site.
func (a *App) contextAgent(cmd *cobra.Command, name, by string) (found, error) {
	c, err := readContext(name)
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			e.Err = fmt.Errorf("%s: %w", by, e.Err)
		}
		return found{}, err
	}
	if !changed(cmd, "token-file") {
		a.tokenFile = c.TokenFile
	}
	if !changed(cmd, "tls-ca") {
		a.caFile = c.TLSCA
	}
	return found{c.Addr, "context " + name}, nil
}
