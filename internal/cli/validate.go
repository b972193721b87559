package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"leasehold/internal/config"
)

func (a *App) configCommand() *cobra.Command {
	return group("config", "Check config files", a.validateCommand())
}

// validation is the result of `config validate`.
type validation struct {
	File     string         `json:"file"`
	OK       bool           `json:"ok"`
	Faults   []config.Fault `json:"faults"`
	Warnings []string       `json:"warnings"`
	Checks   []config.Check `json:"checks"`
}

func (a *App) validateCommand() *cobra.Command {
	var format string
	var offline bool
	cmd := &cobra.Command{
		Use:   "validate [FILE]",
		Short: "Check a config file and what it needs from this machine",
		Long: "Checks the file as the agent would, then what it needs from this machine: ports are free or used by this " +
			"node's own\n" +
			"agent, the secret is readable, the data directory writable, handler commands exist. If the node's agent is " +
			"running, sizes\n" +
			"are compared with the stored ones. Exit code 2 if anything is wrong; warnings do not count.",
		Example: "  leasehold config validate\n  leasehold config validate ./n2/config.toml --offline",
		Args:    cobra.MaximumNArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			path := a.findConfig(cmd)
			if len(args) == 1 {
				path = args[0]
			}
			v, err := validate(cmd.Context(), path, offline)
			if err != nil {
				return a.configError(err)
			}
			return a.printValidation(v, format)
		}),
	}
	addOutput(cmd, &format)
	cmd.Flags().BoolVar(&offline, "offline", false, "check only the file, not this machine: for a file of another machine")
	return cmd
}

func validate(ctx context.Context, path string, offline bool) (validation, error) {
	v := validation{File: path, Faults: []config.Fault{}, Warnings: []string{}, Checks: []config.Check{}}
	c, err := config.Load(path)
	var faults *config.Error
	if errors.As(err, &faults) {
		v.Faults = faults.Faults
		return v, nil
	}
	if err != nil {
		return v, err
	}
	v.Warnings = append(v.Warnings, c.Warnings()...)
	if !offline {
		v.Checks = knowOwnPorts(ctx, c, c.CheckEnvironment(ctx))
		v.Warnings = append(v.Warnings, storeWarnings(ctx, c)...)
	}
	v.OK = true
	for _, check := range v.Checks {
		v.OK = v.OK && check.OK
	}
	return v, nil
}

func (a *App) printValidation(v validation, format string) error {
	if format == formatJSON {
		if err := printJSON(a.Out, v); err != nil {
			return err
		}
	} else {
		a.printCheckList(v)
	}
	if v.OK {
		return nil
	}
	return &Error{Code: exitUsage, Err: fmt.Errorf("%s: not valid", v.File), Shown: true}
}

func (a *App) printCheckList(v validation) {
	if len(v.Faults) == 0 {
		fmt.Fprintf(a.Out, "✓ %s: syntax, keys, values and their relations\n", v.File)
	}
	for _, f := range v.Faults {
		place := v.File
		if f.Line > 0 {
			place = fmt.Sprintf("%s:%d", v.File, f.Line)
		}
		fmt.Fprintf(a.Out, "✗ %s: %s\n", place, f.Message)
	}
	for _, w := range v.Warnings {
		fmt.Fprintf(a.Out, "! %s\n", w)
	}
	for _, c := range v.Checks {
		mark := "✓"
		if !c.OK {
			mark = "✗"
		}
		fmt.Fprintf(a.Out, "%s %s: %s\n", mark, c.Name, c.Detail)
	}
}
