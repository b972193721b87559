package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"leasehold/internal/api"
)

// removeFlags are those of every command that removes something permanently.
type removeFlags struct {
	format      string
	yes, dryRun bool
}

func addRemoveFlags(cmd *cobra.Command, f *removeFlags) {
	addOutput(cmd, &f.format)
	cmd.Flags().BoolVar(&f.yes, "yes", false, "skip the confirmation")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "show what would happen; change nothing")
}

// confirm asks at the terminal. Without a terminal, or with -o json, --yes is required.
func (a *App) confirm(cmd *cobra.Command, f removeFlags, question string) error {
	if f.yes {
		return nil
	}
	if f.format == formatJSON || !isTerminal(a.In) {
		return usage("%s cannot be undone: confirm with --yes, or look first with --dry-run", cmd.CommandPath())
	}
	return a.askYes(cmd.Context(), question)
}

// jsonOnly prints a document if that is what was asked for.
func (a *App) jsonOnly(format string, v any) error {
	if format != formatJSON {
		return nil
	}
	return printJSON(a.Out, v)
}

// refused gives a refusal its code and its next step.
func refused(err error, hint string) error {
	if errors.Is(err, api.ErrRefused) || errors.Is(err, api.ErrNotFound) {
		e := asError(err)
		e.Hint = hint
		return e
	}
	return err
}
