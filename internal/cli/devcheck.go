package cli

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"leasehold/internal/devcheck"
)

func (a *App) devCheckCommand(dir *string) *cobra.Command {
	var o devcheck.Options
	var format string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check what the handlers of the demo wrote against what was published",
		Long: "Reads DIR/out/file/NODE/*.ndjson (the file handler) and DIR/out/running/*.ndjson (examples/flights/running.py)\n" +
			"and checks that every row of --input was handled exactly once by each group, and each key in order. Exit code 1\n" +
			"with the first differences if not.",
		Example: "  leasehold dev check --dir /tmp/demo --input examples/flights/flights-20k.ndjson --key-field origin --id-field id \\\n" +
			"      --file-group audit --chain-group running",
		Args: cobra.NoArgs,
		RunE: action(func(*cobra.Command, []string) error {
			o.FileDir = filepath.Join(*dir, outName, "file")
			o.ChainDir = filepath.Join(*dir, outName, "running")
			r, err := devcheck.Check(o)
			if err != nil {
				return err
			}
			return a.printCheck(r, format)
		}),
	}
	addOutput(cmd, &format)
	flags := cmd.Flags()
	flags.StringVar(&o.Input, "input", "", "NDJSON file that was published (required)")
	flags.StringVar(&o.KeyField, "key-field", "", "field that holds the key, as for pub (required)")
	flags.StringVar(&o.IDField, "id-field", "", "field that names a row, as for pub (required)")
	flags.StringVar(&o.FileGroup, "file-group", "", "group with the file handler")
	flags.StringVar(&o.ChainGroup, "chain-group", "", "group with running.py")
	flags.BoolVar(&o.AllowRepeats, "allow-repeats", false, "accept rows that the file group handled again under a newer epoch, as after a kill")
	for _, name := range []string{"input", "key-field", "id-field"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}

func (a *App) printCheck(r *devcheck.Report, format string) error {
	if format == formatJSON {
		if err := printJSON(a.Out, r); err != nil {
			return err
		}
	} else {
		a.printClaims(r)
	}
	if r.OK() {
		return nil
	}
	return &Error{Code: exitFailed, Err: errors.New("the outputs differ from the input"), Shown: true}
}

func (a *App) printClaims(r *devcheck.Report) {
	rows := make([]table.Row, 0, len(r.Claims))
	for _, c := range r.Claims {
		mark := "✓"
		if !c.OK {
			mark = "✗"
		}
		rows = append(rows, table.Row{mark, c.Group, c.Claim, c.Detail})
	}
	_ = printTable(a.Out, table.Row{"", "group", "claim", "checked on"}, rows)
	for _, d := range r.Differences {
		fmt.Fprintln(a.Out, "✗", d)
	}
	if r.OK() {
		fmt.Fprintf(a.Out, "All %s of %s were handled once by every group, each key in order.\n", count(r.Rows, "row"), count(r.Keys, "key"))
	}
}
