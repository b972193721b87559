package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"leasehold/internal/api"
)

// version is set by the build: -ldflags "-X leasehold/internal/cli.version=…".
var version = "0.1.0-dev"

// versionInfo says what this binary is made of.
type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Date    string `json:"date,omitempty"` // Of the commit.
	Dirty   bool   `json:"dirty,omitempty"`
	Go      string `json:"go"`
	Broker  string `json:"nats_server,omitempty"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
	Schema  int    `json:"status_schema"`
}

func (a *App) versionCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this binary",
		Example: "  leasehold version\n  leasehold version -o json",
		Args:    cobra.NoArgs,
		RunE: action(func(*cobra.Command, []string) error {
			v := thisVersion()
			if format == formatJSON {
				return printJSON(a.Out, v)
			}
			fmt.Fprintln(a.Out, v.line())
			if v.Commit != "" {
				fmt.Fprintf(a.Out, "commit %s of %s\n", v.Commit, v.Date)
			}
			return nil
		}),
	}
	addOutput(cmd, &format)
	return cmd
}

// line is what --version prints.
func (v versionInfo) line() string {
	return fmt.Sprintf("leasehold %s (%s %s/%s, nats-server %s)", v.Version, v.Go, v.OS, v.Arch, v.Broker)
}

func thisVersion() versionInfo {
	v := versionInfo{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, Schema: api.Version}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Date = s.Value
		case "vcs.modified":
			v.Dirty = s.Value == "true"
		}
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/nats-io/nats-server/v2" {
			v.Broker = m.Version
		}
	}
	return v
}
