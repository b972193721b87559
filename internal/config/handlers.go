package config

import (
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"slices"
	"strings"

	"leasehold/internal/fielderr"
	"leasehold/server"
	"leasehold/worker"
)

// checkHandler looks at what a group's handler needs from this machine.
func checkHandler(g worker.Config) []Check {
	switch g.Handler.Kind {
	case worker.KindSubprocess, worker.KindExec:
		return []Check{checkCommand(g)}
	case worker.KindHTTP:
		return checkHandlerFiles(g)
	case worker.KindFile:
		return []Check{result(fmt.Sprintf("group %q: handler directory", g.Name), g.Handler.Path, canMake(g.Handler.Path))}
	}
	return nil
}

func checkCommand(g worker.Config) Check {
	name := fmt.Sprintf("group %q: handler command", g.Name)
	path, err := exec.LookPath(g.Handler.Command[0])
	if err != nil {
		return Check{Name: name, Detail: fmt.Sprintf("handler.command: %s; install it or give its full path", err)}
	}
	return Check{Name: name, OK: true, Detail: path}
}

// checkHandlerFiles reads what a handler needs to make its requests.
func checkHandlerFiles(g worker.Config) []Check {
	files := g.Handler.Files()
	if len(files) == 0 {
		return nil
	}
	check := result(fmt.Sprintf("group %q: handler files", g.Name), strings.Join(files, ", "), g.Handler.CheckFiles())
	if check.OK {
		check = warned(check, handlerModes(g))
	}
	return []Check{check}
}

// handlerModes looks at who else can read a handler's secrets.
func handlerModes(g worker.Config) (warnings []string) {
	for _, f := range g.Handler.PrivateFiles() {
		warnings = append(warnings, modeWarnings(fmt.Sprintf("group %q: %s", g.Name, f.Key), f.Path)...)
	}
	return warnings
}

// CheckHandlerFiles reads what the groups' handlers will read, to find a fault before anything starts, and returns what
// is allowed and most likely not meant. A fault is an *Error, as if it stood in the config.
func (c *Config) CheckHandlerFiles() (warnings []string, err error) {
	e := &Error{File: c.path}
	for _, g := range c.Groups {
		for _, fault := range fielderr.All(g.Handler.CheckFiles()) {
			e.Faults = append(e.Faults, Fault{Message: fmt.Sprintf("group %q: %s", g.Name, fault)})
		}
		warnings = append(warnings, handlerModes(g)...)
	}
	if len(e.Faults) > 0 {
		return nil, e
	}
	return warnings, nil
}

// handlerWarnings is about handlers that will hardly do what is meant.
func (c *Config) handlerWarnings() (out []string) {
	for _, g := range c.Groups {
		served := slices.ContainsFunc(c.Users, func(u server.UserConfig) bool { return slices.Contains(u.Serve, g.Name) })
		if g.Handler.Kind == worker.KindNATS && !served {
			out = append(out, fmt.Sprintf("group %q: handler.kind: no [[user]] serves this group, so nobody can answer its requests; add one with serve = [%q]", g.Name, g.Name))
		}
		u, err := url.Parse(g.Handler.URL)
		if err == nil && g.Handler.BearerFile != "" && u.Scheme == "http" && !server.IsLoopback(net.JoinHostPort(u.Hostname(), "80")) {
			out = append(out, fmt.Sprintf("group %q: handler.bearer_file: the token travels unencrypted to %s; use https://, or be sure of the network", g.Name, u.Host))
		}
	}
	return out
}
