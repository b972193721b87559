package config

import (
	"fmt"
	"maps"
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
			out = append(out, fmt.Sprintf("group %q: handler.kind: no [[user]] serves this group, so its requests cannot be "+
				"answered; add one with serve = [%q]", g.Name, g.Name))
		}
		u, err := url.Parse(needs.SecretURL)
		if err == nil && u.Scheme == "http" && !access.IsLoopback(net.JoinHostPort(u.Hostname(), "80")) {
			out = append(out, fmt.Sprintf("group %q: handler.bearer_file: the token travels unencrypted to %s; use https://, "+
				"or be sure of the network", g.Name, u.Host))
		}
	}
	return out
}

// handler fills a group's handler table, whose keys depend on its kind.
func (d *decoder) handler(p toml.Primitive, h *worker.HandlerConfig, path string) {
	keys, ok := d.sub(p, path, `with a kind, like { kind = "exec", command = ["/opt/handler.py"] }`)
	if !ok {
		return
	}
	if kind, there := keys["kind"]; there {
		d.value(kind, reflect.ValueOf(&h.Kind).Elem(), fielderr.Join(path, "kind"))
		delete(keys, "kind")
	}
	kind, known := worker.KindNamed(h.Kind)
	if !known { // The check of the kind says so.
		d.handlerOfAnyKind(keys, path)
		return
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if takers := worker.KindsWithKey(key); len(takers) > 0 && !slices.Contains(takers, kind.Name) {
			path := fielderr.Join(path, key)
			d.faults.addRead(path, "%s: is not a key of kind %q", display(path), kind.Name)
			delete(keys, key)
		}
	}
	h.Config = d.handlerConfig(kind, keys, path)
}

func (d *decoder) handlerConfig(kind handler.Kind, keys map[string]toml.Primitive, path string) handler.Config {
	c := reflect.New(reflect.TypeOf(kind.Config)).Elem()
	c.Set(reflect.ValueOf(kind.Config.Defaulted()))
	d.table(keys, c, path)
	return c.Interface().(handler.Config)
}

// handlerOfAnyKind finds the faults of a handler table that do not depend on its kind: keys that no kind takes, and
// values of the wrong type.
func (d *decoder) handlerOfAnyKind(keys map[string]toml.Primitive, path string) {
	known := []string{"kind"}
	for _, name := range worker.Kinds() {
		kind, _ := worker.KindNamed(name)
		known = append(known, kind.Keys()...)
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		takers := worker.KindsWithKey(key)
		if len(takers) == 0 {
			d.unknown(key, path, keys, known)
			continue
		}
		kind, _ := worker.KindNamed(takers[0])
		d.handlerConfig(kind, map[string]toml.Primitive{key: keys[key]}, path)
	}
}
