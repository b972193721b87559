package overlay

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEditsOfOneFileAddUp(t *testing.T) {
	dir := t.TempDir()
	path, err := Write(dir, []Edit{
		{"internal/harness/overlay/overlay.go", "// Package overlay makes", "// Package overlay forges"},
		{"internal/harness/overlay/overlay.go", "package overlay\n", "package overlay // edited\n"},
	})
	if err != nil {
		t.Fatal(err)
	}
	list, _ := os.ReadFile(path)
	text, err := os.ReadFile(filepath.Join(dir, "internal_harness_overlay_overlay.go"))
	if err != nil || !strings.Contains(string(list), "internal_harness_overlay_overlay.go") {
		t.Fatalf("%v: %s", err, list)
	}
	if !strings.HasPrefix(string(text), "// Package overlay forges") ||
		!strings.Contains(string(text), "package overlay // edited\n") {
		t.Errorf("edited is\n%.200s", text)
	}
}

func TestAnEditThatDoesNotFitIsRefused(t *testing.T) {
	for _, e := range []Edit{
		{"internal/harness/overlay/overlay.go", "no such " + "text in it", ""},
		{"internal/harness/overlay/overlay.go", "overlay", "it is there more than once"},
		{"internal/harness/overlay/missing.go", "a", "b"},
	} {
		if _, err := Write(t.TempDir(), []Edit{e}); err == nil {
			t.Errorf("%+v was made", e)
		}
	}
}
