package config

import (
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"reflect"
	"slices"
	"strings"

	"leasehold/internal/fielderr"
	"leasehold/server/access"
	"leasehold/worker"
	"leasehold/worker/handler"

	"github.com/BurntSushi/toml"
)

// checkHandler looks at what a group's handler needs from this machine.
func checkHandler(g worker.Config) []Check {
	needs := g.Handler.Resources()
	switch {
	case needs.Command != nil:
		return []Check{checkCommand(g)}
	case needs.Files != nil:
		return checkHandlerFiles(g)
	case needs.Directory != "":
		return []Check{result(fmt.Sprintf("group %q: handler directory", g.Name), needs.Directory, canMake(needs.Directory))}
	}
	return nil
}

func checkCommand(g worker.Config) Check {
	name := fmt.Sprintf("group %q: handler command", g.Name)
	path, err := exec.LookPath(g.Handler.Resources().Command[0])
	if err != nil {
		return Check{Name: name, Detail: fmt.Sprintf("handler.command: %s; install it or give its full path", err)}
	}
	return Check{Name: name, OK: true, Detail: path}
}

// checkHandlerFiles reads what a handler needs to make its requests.
func checkHandlerFiles(g worker.Config) []Check {
	var files []string
	for _, f := range g.Handler.Resources().Files {
		files = append(files, f.Path)
	}
	check := result(fmt.Sprintf("group %q: handler files", g.Name), strings.Join(files, ", "), g.Handler.CheckFiles())
	if check.OK {
		check = warned(check, handlerModes(g))
	}
	return []Check{check}
}

// handlerModes looks at who else can read a handler's secrets.
func handlerModes(g worker.Config) (warnings []string) {
	for _, f := range g.Handler.Resources().Files {
		if f.Private {
			warnings = append(warnings, modeWarnings(fmt.Sprintf("group %q: handler.%s", g.Name, f.Key), f.Path)...)
		}
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

// handlerWarnings is about handlers that are probably misconfigured.
func (c *Config) handlerWarnings() (out []string) {
	for _, g := range c.Groups {
		served := slices.ContainsFunc(c.Users, func(u access.UserConfig) bool { return slices.Contains(u.Serve, g.Name) })
		needs := g.Handler.Resources()
		if needs.Service && !served {
			out = append(out, fmt.Sprintf("group %q: handler.kind: no [[user]] serves this group, so its requests cannot be answered; add one with serve = [%q]", g.Name, g.Name))
		}
		u, err := url.Parse(needs.SecretURL)
		if err == nil && u.Scheme == "http" && !access.IsLoopback(net.JoinHostPort(u.Hostname(), "80")) {
			out = append(out, fmt.Sprintf("group %q: handler.bearer_file: the token travels unencrypted to %s; use https://, or be sure of the network", g.Name, u.Host))
		}
	}
	return out
}

// handler fills a group's handler table, whose keys depend on its kind.
func (d *decoder) handler(p toml.Primitive, h *worker.HandlerConfig, path string) {
	var keys map[string]toml.Primitive
	if err := d.md.PrimitiveDecode(p, &keys); err != nil {
		d.faults.add(path, "%s: must be a table", display(path))
		return
	}
	if kind, there := keys["kind"]; there {
		d.value(kind, reflect.ValueOf(&h.Kind).Elem(), fielderr.Join(path, "kind"))
		delete(keys, "kind")
	}
	kind, known := worker.KindNamed(h.Kind)
	for key := range keys {
		if takers := worker.KindsWithKey(key); len(takers) > 0 && !slices.Contains(takers, kind.Name) {
			delete(keys, key)
			if known { // Else the fault is the kind.
				d.faults.add(fielderr.Join(path, key), "%s: is not a key of kind %q", display(fielderr.Join(path, key)), kind.Name)
			}
		}
	}
	if !known {
		for key := range keys {
			d.unknown(key, path, []string{"kind"})
		}
		return
	}
	c := reflect.New(reflect.TypeOf(kind.Config)).Elem()
	c.Set(reflect.ValueOf(kind.Config.Defaulted()))
	d.table(keys, c, path)
	h.Config = c.Interface().(handler.Config)
}
