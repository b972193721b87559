package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"leasehold/internal/api"
	"leasehold/internal/config"
)

// completeTimeout is how long a shell waits for the names of topics and groups: the user has pressed a key.
const completeTimeout = time.Second

// completer offers words for the argument that is being typed. Without any it is silent: an error in the middle of a
// command line helps nobody.
type completer = func(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion,
	cobra.ShellCompDirective)

// completeArguments offers names wherever the usage of a command says that its first argument is one.
func (a *App) completeArguments(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		a.completeArguments(c)
	}
	words := strings.Fields(cmd.Use)
	if len(words) < 2 || cmd.ValidArgsFunction != nil {
		return
	}
	switch cmd.CommandPath() {
	case "leasehold node remove":
		cmd.ValidArgsFunction = first(a.nodeNames)
		return
	case "leasehold group remove":
		cmd.ValidArgsFunction = a.completeGroup
		return
	case "leasehold config validate":
		cmd.ValidArgsFunction = cobra.FixedCompletions([]string{"toml"}, cobra.ShellCompDirectiveFilterFileExt)
		return
	}
	switch words[1] {
	case "TOPIC":
		cmd.ValidArgsFunction = a.completeTopic
	case "GROUP":
		cmd.ValidArgsFunction = a.completeGroup
	}
}

// first offers words for a command's first argument only.
func first(words func(cmd *cobra.Command) []string) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return words(cmd), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeTopic offers the topics of the agent that the command would ask.
func (a *App) completeTopic(cmd *cobra.Command, args []string,
	toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return first(func(cmd *cobra.Command) (names []string) {
		a.askForCompletion(cmd, func(ctx context.Context, client *api.Client) {
			if s, err := client.Status(ctx); err == nil {
				for _, t := range s.Topics {
					names = append(names, t.Name)
				}
			}
		})
		return names
	})(cmd, args, toComplete)
}

// completeUnusedTopic offers its topics that can be removed.
func (a *App) completeUnusedTopic(cmd *cobra.Command, args []string,
	toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return first(func(cmd *cobra.Command) (names []string) {
		a.askForCompletion(cmd, func(ctx context.Context, client *api.Client) {
			if l, err := client.Topics(ctx); err == nil {
				for _, t := range l.Topics {
					if t.State == "unused" {
						names = append(names, t.Name)
					}
				}
			}
		})
		return names
	})(cmd, args, toComplete)
}

// completeGroup offers its groups, save those that were removed.
func (a *App) completeGroup(cmd *cobra.Command, args []string,
	toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return first(func(cmd *cobra.Command) (names []string) {
		a.askForCompletion(cmd, func(ctx context.Context, client *api.Client) {
			if l, err := client.Groups(ctx); err == nil {
				for _, g := range l.Groups {
					if g.State != "removed" {
						names = append(names, g.Name)
					}
				}
			}
		})
		return names
	})(cmd, args, toComplete)
}

// completeConfigGroup offers the groups of the config file.
func (a *App) completeConfigGroup(cmd *cobra.Command, args []string,
	toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return first(func(cmd *cobra.Command) (names []string) {
		if c, err := config.Load(a.findConfig(cmd)); err == nil {
			for _, g := range c.Groups {
				names = append(names, g.Name)
			}
		}
		return names
	})(cmd, args, toComplete)
}

// nodeNames lists what `node remove` can name.
func (a *App) nodeNames(cmd *cobra.Command) (names []string) {
	a.askForCompletion(cmd, func(ctx context.Context, client *api.Client) {
		if l, err := client.Nodes(ctx); err == nil {
			for _, n := range l.Nodes {
				names = append(names, n.Name)
			}
		}
	})
	slices.Sort(names)
	return slices.Compact(names)
}

// devNodeNames lists the nodes of the dev cluster in a directory.
func devNodeNames(dir *string) func(*cobra.Command) []string {
	return func(*cobra.Command) (names []string) {
		nodes, _ := devNodes(*dir) // An error: there are none.
		for _, n := range nodes {
			names = append(names, n.Name)
		}
		return names
	}
}

// positions are the forms of `seek --to`.
var positions = []string{"earliest", "latest", "seq:", "time:", "-1h"}

// askForCompletion has ask ask the agent, within a moment. If there is none to ask it does nothing.
func (a *App) askForCompletion(cmd *cobra.Command, ask func(ctx context.Context, client *api.Client)) {
	client, err := a.client(cmd)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	ask(ctx, client)
}
