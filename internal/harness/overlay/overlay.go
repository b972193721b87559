// Package overlay makes changed copies of sources for one compilation: tests take a rule out of the product and want
// somebody to notice, or a clock to be wrong.
package overlay

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Edit makes New out of Old, which must be in File exactly once. File is relative to the module's directory, or
// absolute.
type Edit struct{ File, Old, New string }

// Write writes the edited files below dir and returns the file to give to the compiler's -overlay.
func Write(dir string, edits []Edit) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	texts := make(map[string]string) // by file
	for _, e := range edits {
		text, known := texts[e.File]
		if !known {
			original, err := os.ReadFile(place(root, e.File))
			if err != nil {
				return "", fmt.Errorf("edit: %w", err)
			}
			text = string(original)
		}
		if n := strings.Count(text, e.Old); n != 1 {
			return "", fmt.Errorf("edit %s: it holds this %d times, want once:\n%s", e.File, n, e.Old)
		}
		texts[e.File] = strings.Replace(text, e.Old, e.New, 1)
	}
	replace := make(map[string]string)
	for file, text := range texts {
		changed := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("write the edited %s: %w", file, err)
		}
		replace[place(root, file)] = changed
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, list, 0o600); err != nil {
		return "", fmt.Errorf("write the overlay: %w", err)
	}
	return path, nil
}

// place is the file's full path.
func place(root, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(root, file)
}

// moduleRoot is the directory of the go.mod above the working directory, which for a test is that of its package.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod above the working directory")
		}
		dir = up
	}
}
