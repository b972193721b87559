// Package internal holds the tests of the documentation and of what holds the tree together.
package internal

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// ruledFolders are the folders that an import rule of .golangci.yml is about, each with what the rule takes of it:
// "**" (the folder and all below), "*/**" (only what is below) or "*.go" (only the folder).
func ruledFolders(t *testing.T) (rules [][2]string) {
	t.Helper()
	rule := regexp.MustCompile(`"\$\{config-path\}/([^*"]+)/(\*[^"]*)"`)
	for _, m := range rule.FindAllStringSubmatch(read(t, "../.golangci.yml"), -1) {
		rules = append(rules, [2]string{m[1], m[2]})
	}
	if len(rules) < 20 {
		t.Fatalf("only %d rules were found", len(rules))
	}
	return rules
}

// An import rule is for a folder: one that has moved would take its rule with it, unseen.
func TestImportRulesNameFoldersThatExist(t *testing.T) {
	for _, r := range ruledFolders(t) {
		if info, err := os.Stat(filepath.Join("..", r[0])); err != nil || !info.IsDir() {
			t.Errorf(".golangci.yml has a rule for %s, which is not a folder here: %v", r[0], err)
		}
	}
}

// A new package of the product is somewhere in the house, and a rule says what it may know. What is about all packages
// but some does not count: those patterns begin with an exclamation mark.
func TestEveryPackageHasAnImportRule(t *testing.T) {
	rules, packages := ruledFolders(t), productPackages(t)
	for _, p := range packages {
		if !ruled(rules, p) {
			t.Errorf("no import rule of .golangci.yml is about %s: give it one, or put it under one that is there", p)
		}
	}
	if len(packages) < 60 {
		t.Errorf("only %d packages were found", len(packages))
	}
}

func ruled(rules [][2]string, pkg string) bool {
	for _, r := range rules {
		at, below := pkg == r[0], strings.HasPrefix(pkg, r[0]+"/")
		if r[1] == "**" && (at || below) || r[1] == "*/**" && below || r[1] == "*.go" && at {
			return true
		}
	}
	return false
}

// productPackages are the folders with code of the product. Examples and what is next to main.go are not parts of it,
// and the harness has rules where it needs some.
func productPackages(t *testing.T) (packages []string) {
	t.Helper()
	skipped := map[string]bool{".": true, "examples": true, "internal/harness": true, "mk": true}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("..", path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && rel != "." && (skipped[rel] || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return fs.SkipDir
		case !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go"):
			return nil
		}
		pkg := filepath.Dir(rel)
		if !skipped[pkg] && !slices.Contains(packages, pkg) {
			packages = append(packages, pkg)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return packages
}
