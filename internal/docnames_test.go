package internal

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every make target, test and packaged identifier in code font in the documentation exists.
func TestDocumentationNamesWhatExists(t *testing.T) {
	makefiles := read(t, "../Makefile") + read(t, "../mk/lab.mk")
	code, tests := texts(t)
	kinds := []struct {
		what    string
		name    *regexp.Regexp
		missing func(m []string) bool
	}{
		{"make target", regexp.MustCompile("(?m)(?:`|^    )make ([a-z][a-z0-9-]*)"), func(m []string) bool {
			return !regexp.MustCompile(`(?m)^` + m[1] + `:`).MatchString(makefiles)
		}},
		{"test", regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w+)`"), func(m []string) bool {
			return !strings.Contains(tests, "func "+m[1]+"(")
		}},
		{"identifier", regexp.MustCompile("`([a-z][a-z0-9]*)\\.([A-Z]\\w*)`"), func(m []string) bool {
			return code[m[1]] != "" && !declares(code[m[1]], m[2])
		}},
	}
	for _, kind := range kinds {
		found := 0
		for _, file := range markdown(t) {
			for _, m := range kind.name.FindAllStringSubmatch(read(t, file), -1) {
				found++
				if kind.missing(m) {
					t.Errorf("%s names the %s %s, which does not exist", file, kind.what, strings.Trim(m[0], " `"))
				}
			}
		}
		if found < 5 {
			t.Errorf("only %d names of a %s were found", found, kind.what)
		}
	}
}

// declares reports whether a package has the name at its top level or as a method.
func declares(text, name string) bool {
	return regexp.MustCompile(`(?m)^(?:func (?:\([^)]*\) )?|(?:type|var|const) |\t)` + name + `\b`).MatchString(text)
}

// texts are the product by package name, and all tests.
func texts(t *testing.T) (code map[string]string, tests string) {
	t.Helper()
	code = map[string]string{}
	var all strings.Builder
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == "../bin" || path == "../.git"):
			return filepath.SkipDir
		case strings.HasSuffix(path, "_test.go"):
			all.WriteString(read(t, path))
		case strings.HasSuffix(path, ".go"):
			code[filepath.Base(filepath.Dir(path))] += read(t, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return code, all.String()
}
