package cli

import (
	"encoding/json"
	"io"
	"os"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"leasehold/internal/cli/screen"
)

// Output formats.
const (
	formatTable = "table"
	formatWide  = "wide"
	formatJSON  = "json"
)

// addOutput gives a command the flag -o.
func addOutput(cmd *cobra.Command, format *string) {
	addFormats(cmd, format, "table or json", formatTable, formatJSON)
}

// addTable gives a command that prints tables the flags -o, with wide, and --color.
func addTable(cmd *cobra.Command, format *string) {
	addFormats(cmd, format, "table, wide (all columns, full times) or json", formatTable, formatWide, formatJSON)
	colour := cmd.Flags().String("color", "auto", "colours: auto (on a terminal, unless NO_COLOR is set), always or never")
	_ = cmd.RegisterFlagCompletionFunc("color", cobra.FixedCompletions([]string{"auto", "always", "never"},
		cobra.ShellCompDirectiveNoFileComp))
	check := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		out := screen.Of(cmd.OutOrStdout())
		switch *colour {
		case "auto":
		case "always", "never":
			out.SetColour(*colour == "always")
		default:
			return usage("--color %q: use auto, always or never", *colour)
		}
		if *format == formatWide {
			out.SetWide()
		}
		return check(cmd, args)
	}
}

func addFormats(cmd *cobra.Command, format *string, text string, formats ...string) {
	cmd.Flags().StringVarP(format, "output", "o", formatTable, "output: "+text)
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	cmd.PreRunE = func(*cobra.Command, []string) error {
		for _, f := range formats {
			if *format == f {
				return nil
			}
		}
		return usage("unknown output format %q: use %s", *format, text)
	}
}

// wantsJSON reports whether a command was called with -o json.
func wantsJSON(cmd *cobra.Command) bool {
	flag := cmd.Flag("output")
	return flag != nil && flag.Value.String() == formatJSON
}

// asksJSON looks for -o json in arguments that could not be understood as a whole.
func asksJSON(args []string) bool {
	for i, arg := range args {
		switch arg {
		case "-ojson", "-o=json", "--output=json":
			return true
		case "-o", "--output":
			return i+1 < len(args) && args[i+1] == formatJSON
		}
	}
	return false
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// printTable prints columns that people can read and programs can cut.
func printTable(w io.Writer, header table.Row, rows []table.Row) error {
	cells := make([][]any, 0, len(rows))
	for _, row := range rows {
		cells = append(cells, row)
	}
	return screen.Of(w).Table(header, cells)
}

// isTerminal reports whether an operator is at the other end of a stream.
func isTerminal(stream any) bool {
	switch s := stream.(type) {
	case *screen.Writer:
		return s.Terminal()
	case *os.File:
		return term.IsTerminal(int(s.Fd()))
	}
	return false
}
