package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"leasehold/internal/config"
)

// explainArguments has a command say which argument is missing or too many, in the words of its usage.
func explainArguments(cmd *cobra.Command) {
	check := cmd.Args
	if check == nil {
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		if err == nil {
			return nil
		}
		if len(args) > 0 && cmd.HasSubCommands() {
			return unknownCommand(cmd, args[0])
		}
		names := argumentNames(cmd)
		if len(args) < len(names) {
			return fmt.Errorf("missing %s; usage: %s", strings.Join(names[len(args):], " and "), cmd.UseLine())
		}
		if most := len(names) + strings.Count(cmd.Use, "["); most > 0 {
			return fmt.Errorf("%q is one argument too many; usage: %s", args[min(most, len(args)-1)], cmd.UseLine())
		}
		return fmt.Errorf("%s takes no arguments, got %q", cmd.CommandPath(), args[0])
	}
}

// argumentNames are the arguments that the usage of a command wants.
func argumentNames(cmd *cobra.Command) (names []string) {
	for _, word := range strings.Fields(cmd.Use)[1:] {
		if word != strings.ToUpper(word) || strings.ContainsAny(word[:1], "[(-") {
			break
		}
		names = append(names, word)
	}
	return names
}

// unknownCommand says what may have been meant.
func unknownCommand(cmd *cobra.Command, name string) error {
	err := fmt.Errorf("unknown command %q for %q", name, cmd.CommandPath())
	if cmd.SuggestionsMinimumDistance == 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		return fmt.Errorf("%w; did you mean %q?", err, near[0])
	}
	return err
}

// flagError explains what is wrong with a flag.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		if short := unknown.GetSpecifiedShortnames(); strings.ContainsAny(short[:1], "0123456789") {
			return fmt.Errorf("-%s is not a flag, and numbers here are positive", short)
		}
	case errors.As(err, &unknown):
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		if near := config.Nearest(unknown.GetSpecifiedName(), known); near != "" {
			return fmt.Errorf("%w; did you mean --%s?", err, near)
		}
	case errors.As(err, &invalid):
		switch invalid.GetFlag().Value.(type) {
		case atLeast, length, word: // Their own errors say it.
			return fmt.Errorf("--%s: %q %w", invalid.GetFlag().Name, invalid.GetValue(), invalid.Unwrap())
		}
		if want := formOf(invalid.GetFlag()); want != "" {
			return fmt.Errorf("--%s: %q is not %s", invalid.GetFlag().Name, invalid.GetValue(), want)
		}
	}
	return err
}

// formOf says what a flag takes.
func formOf(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "uint64":
		return "a whole number from 0"
	case "bool":
		return "true or false"
	}
	return ""
}

// Annotations by which cobra knows flags that exclude each other, or of which one must be given.
const (
	annotationExclusive = "cobra_annotation_mutually_exclusive"
	annotationRequired  = "cobra_annotation_one_required"
)

// checkFlagGroups says which flags exclude each other or are missing before cobra does, which names whole groups.
func checkFlagGroups(cmd *cobra.Command, _ []string) (err error) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		for _, set := range f.Annotations[annotationExclusive] {
			if given := givenOf(cmd, set); err == nil && len(given) > 1 {
				err = usage("--%s and --%s exclude each other: use only one", given[0], given[1])
			}
		}
		for _, set := range f.Annotations[annotationRequired] {
			if err == nil && len(givenOf(cmd, set)) == 0 {
				err = usage("one of --%s is missing", strings.Join(strings.Fields(set), ", --"))
			}
		}
	})
	return err
}

// givenOf are those of a set of flags that were given.
func givenOf(cmd *cobra.Command, set string) (given []string) {
	for _, name := range strings.Fields(set) {
		if changed(cmd, name) {
			given = append(given, name)
		}
	}
	return given
}
