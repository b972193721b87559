// Package internal holds the tests of the documentation and of what holds the tree together.
package internal

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// The import rules of .golangci.yml are for folders: one that has moved would take its rule with it, unseen.
func TestImportRulesNameFoldersThatExist(t *testing.T) {
	folder := regexp.MustCompile(`\$\{config-path\}/([^*"]+)/\*`)
	found := folder.FindAllStringSubmatch(read(t, "../.golangci.yml"), -1)
	coming := map[string]bool{"internal/admin": true, "worker/lane": true, "worker/reader": true}
	for _, m := range found {
		if coming[m[1]] {
			continue
		}
		if info, err := os.Stat(filepath.Join("..", m[1])); err != nil || !info.IsDir() {
			t.Errorf(".golangci.yml has a rule for %s, which is not a folder here: %v", m[1], err)
		}
	}
	if len(found) < 20 {
		t.Errorf("only %d folders were found", len(found))
	}
}
