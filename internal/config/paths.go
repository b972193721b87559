package config

import (
	"leasehold/worker"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"leasehold/internal/fielderr"
)

// checkPaths refuses paths that mean something else to a shell, or can only be slips: they would make a directory of
// that name beside the config. It wants them as they stand in the file.
func (c *Config) checkPaths(f *faults) {
	eachText(reflect.ValueOf(c).Elem(), "", func(path, value string) {
		if fault := pathFault(value); fault != "" && isPath(path) {
			f.addRead(path, "%s: %q %s", display(path), value, fault)
		}
	})
	for i, g := range c.Groups {
		if command := g.Handler.Resources().Command; len(command) > 0 {
			if fault := pathFault(command[0]); fault != "" {
				f.addRead(fielderr.Join(fielderr.Element("group", i), "handler.command"), "group %q: handler.command: %q %s",
					g.Name, command[0], fault)
			}
		}
	}
}

// pathKeys name files and directories, besides those that end like one.
var pathKeys = []string{"path", "data_dir"}

func isPath(path string) bool {
	key := path[strings.LastIndexByte(path, '.')+1:]
	return slices.Contains(pathKeys, key) || strings.HasSuffix(key, "_file") || strings.HasSuffix(key, "_files")
}

// variable is how a shell, or a systemd unit, names one.
var variable = regexp.MustCompile(`\$(\{|[A-Za-z_])`)

// pathFault says why a path is probably a mistake, "" if it is not.
func pathFault(path string) string {
	switch {
	case strings.HasPrefix(path, "~"):
		return "starts with ~, which is not expanded; write the full path, or ./~ for a file of that name"
	case variable.MatchString(path):
		return "contains a variable, which is not expanded; write the full path"
	case strings.TrimSpace(path) != path:
		return "starts or ends with a blank"
	case strings.ContainsFunc(path, unicode.IsControl):
		return "contains a control character; in a TOML string a backslash is written \\\\, or the string in '…'"
	case strings.HasPrefix(path, "file:"):
		return "is a URL; write the path alone"
	}
	return ""
}

// eachText goes through the texts, and lists of them, that the config's tables hold.
func eachText(v reflect.Value, path string, do func(path, value string)) {
	switch {
	case v.Kind() == reflect.String:
		do(path, v.String())
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.String:
		for i := range v.Len() {
			do(path, v.Index(i).String())
		}
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		for i := range v.Len() {
			eachText(v.Index(i), fielderr.Element(path, i), do)
		}
	case v.Type() == reflect.TypeFor[worker.HandlerConfig]():
		if c := v.FieldByName("Config"); !c.IsNil() {
			eachText(c.Elem(), path, do)
		}
	case v.Kind() == reflect.Struct:
		for key, field := range fieldsByKey(v.Type()) {
			eachText(v.Field(field), fielderr.Join(path, key), do)
		}
	}
}
