package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"leasehold/internal/cli/screen"
)

// connectionFlags say which agent to ask, in the order of their use.
var connectionFlags = []string{"config", "addr", "context", "token-file", "tls-ca"}

// ownConnection are the commands that ask no agent, or only the one of a config, with the flags that they use. A
// command stands for those below it, too.
var ownConnection = map[string][]string{
	"leasehold agent":               {"config"},
	"leasehold completion":          nil,
	"leasehold config validate":     {"config"},
	"leasehold context":             nil,
	"leasehold context add":         {"addr", "token-file", "tls-ca"},
	"leasehold dev":                 nil,
	"leasehold handler conformance": {"config"},
	"leasehold help":                nil,
	"leasehold init":                nil,
	"leasehold tls ca":              {"config"},
	"leasehold user":                nil,
	"leasehold version":             nil,
}

// completeTree adds to every command what all have: the flags of the connection, if it uses them, errors that say how
// to call it, and its help.
func (a *App) completeTree(root *cobra.Command) {
	root.SetOut(a.Out) // Before the completion command is made: it keeps it.
	root.SetErr(a.Err)
	root.InitDefaultCompletionCmd()
	root.SetHelpCommand(helpCommand())
	root.InitDefaultHelpCmd()
	root.SetUsageFunc(a.printUsage)
	root.SetFlagErrorFunc(flagError)
	root.PersistentPreRunE = checkFlagGroups
	a.completeCommand(root)
}

func (a *App) completeCommand(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		a.completeCommand(sub)
	}
	switch cmd.Name() {
	case "list":
		cmd.SuggestFor = append(cmd.SuggestFor, "ls", "show")
	case "remove":
		cmd.SuggestFor = append(cmd.SuggestFor, "rm", "delete", "drop")
	}
	if cmd.HasSubCommands() && cmd.Run == nil && cmd.RunE == nil {
		cmd.RunE = showHelp
	}
	explainArguments(cmd)
	if isGroup(cmd) {
		cmd.DisableFlagsInUseLine = true
	}
	a.addConnection(cmd)
}

// isGroup reports whether a command only holds others.
func isGroup(cmd *cobra.Command) bool { return cmd.HasSubCommands() && cmd.Name() != "dev" }

func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND…]",
		Short:   "Help for a command",
		Example: "  leasehold help dlq list",
		RunE: action(func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = unknownCommand(about, rest[0])
			}
			if err != nil {
				return usage("%s", err)
			}
			return about.Help()
		}),
	}
}

// addConnection gives a command those flags of the connection that it uses and does not have already. A group of
// commands takes all and shows none: with a misspelled command below it, they are not what is wrong.
func (a *App) addConnection(cmd *cobra.Command) {
	names := connectionFlags
	for at := cmd; at != nil && !isGroup(cmd); at = at.Parent() {
		if own, ok := ownConnection[at.CommandPath()]; ok {
			names = own
			break
		}
	}
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	all.StringVar(&a.configPath, "config", defaultConfig, "config `file` of the node")
	all.StringVar(&a.addr, "addr", os.Getenv(addrVariable),
		"agent to ask: host:port, https://host:port or the path of its socket (default: "+whereFound+"; environment: "+
			addrVariable+")")
	all.StringVar(&a.contextName, "context", "", "saved agent to ask, see leasehold context (environment: "+
		contextVariable+")")
	all.StringVar(&a.tokenFile, "token-file", os.Getenv(tokenVariable),
		"`file` with the token for an agent on another machine (environment: "+tokenVariable+")")
	all.StringVar(&a.caFile, "tls-ca", os.Getenv(caVariable),
		"PEM `file` of the CA that the nodes' certificates must come from; `leasehold tls ca` prints it on a node "+
			"(environment: "+caVariable+")")
	for _, name := range names {
		if f := all.Lookup(name); cmd.Flags().Lookup(name) == nil {
			f.Hidden = isGroup(cmd)
			cmd.Flags().AddFlag(f)
			if name == "context" {
				_ = cmd.RegisterFlagCompletionFunc(name, first(completeContext))
			}
		}
	}
}

// printUsage is the help of a command below its description.
func (a *App) printUsage(cmd *cobra.Command) error {
	var b strings.Builder
	b.WriteString("Usage:\n")
	if !isGroup(cmd) {
		fmt.Fprintf(&b, "  %s\n", cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s COMMAND\n", cmd.CommandPath())
	}
	if cmd.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\nCommands:\n")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, "  %-*s %s\n", sub.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}
	a.printFlags(&b, cmd)
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n`%s COMMAND --help` for the usage of a command\n", cmd.CommandPath())
	}
	_, err := io.WriteString(cmd.OutOrStderr(), b.String())
	return err
}

// printFlags prints a command's flags, those of the connection last.
func (a *App) printFlags(b *strings.Builder, cmd *cobra.Command) {
	width, _ := screen.Of(a.Out).Size()
	own, connection := pflag.NewFlagSet("", pflag.ContinueOnError), pflag.NewFlagSet("", pflag.ContinueOnError)
	connection.SortFlags = false
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(connectionFlags, f.Name) {
			own.AddFlag(f)
		}
	})
	own.AddFlagSet(cmd.InheritedFlags())
	for _, name := range connectionFlags {
		if f := cmd.LocalFlags().Lookup(name); f != nil {
			connection.AddFlag(f)
		}
	}
	for _, part := range []struct {
		title string
		flags *pflag.FlagSet
	}{{"Flags", own}, {"Which agent", connection}} {
		if part.flags.HasAvailableFlags() {
			fmt.Fprintf(b, "\n%s:\n%s", part.title, part.flags.FlagUsagesWrapped(width))
		}
	}
}
