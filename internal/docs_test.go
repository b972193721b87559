package internal

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// Every relative link in the documentation leads to a file that exists, and to a heading in it.
func TestLinksOfTheDocumentation(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	links := 0
	for _, file := range markdown(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, file), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			links++
			path, anchor, _ := strings.Cut(m[1], "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", file, m[1], err)
			} else if anchor != "" && !headings(read(t, target))[anchor] {
				t.Errorf("%s links to %s: no such heading", file, m[1])
			}
		}
	}
	if links < 50 {
		t.Errorf("only %d links were found", links)
	}
}

// Every path in code font in architecture.md is a file or a folder of this tree.
func TestArchitectureNamesWhatExists(t *testing.T) {
	code := regexp.MustCompile("`([^`\\s]+)`")
	paths := 0
	for _, m := range code.FindAllStringSubmatch(read(t, "../docs/architecture.md"), -1) {
		name := m[1]
		if strings.HasPrefix(name, "/") || !strings.Contains(name, "/") && !strings.HasSuffix(name, ".go") {
			continue
		}
		paths++
		if _, err := os.Stat(filepath.Join("..", name)); err != nil {
			t.Errorf("docs/architecture.md names %s: %v", name, err)
		}
	}
	if paths < 20 {
		t.Errorf("only %d paths were found", paths)
	}
}

// A picture is rendered from its source as it is now, and the pages show that same source. `make diagrams` makes both
// true.
func TestDiagramsAreOfTheirSources(t *testing.T) {
	sources := map[string]string{}
	for _, file := range glob(t, "../docs/diagrams/*.mmd") {
		name := strings.TrimSuffix(filepath.Base(file), ".mmd")
		sources[name] = read(t, file)
		sum := sha256.Sum256([]byte(sources[name]))
		if picture := read(t, "../docs/img/"+name+".svg"); !strings.Contains(picture, "sha256 "+hex.EncodeToString(sum[:])) {
			t.Errorf("docs/img/%s.svg was not rendered from docs/diagrams/%s.mmd as it is now: run make diagrams", name, name)
		}
	}
	shown := map[string]bool{}
	block := regexp.MustCompile("(?s)(?:<!-- diagram: (\\S+) -->\n)?```mermaid\n(.*?)```")
	for _, file := range markdown(t) {
		for _, m := range block.FindAllStringSubmatch(read(t, file), -1) {
			name := m[1]
			shown[name] = true
			if name == "" || m[2] != sources[name] {
				t.Errorf("%s: the Mermaid block %q is not docs/diagrams/%s.mmd: run make diagrams", file, name, name)
			}
			if !strings.Contains(read(t, file), "](img/"+name+".svg)") {
				t.Errorf("%s shows the source of %s without its picture", file, name)
			}
		}
	}
	for name := range sources {
		if !shown[name] {
			t.Errorf("no page shows docs/diagrams/%s.mmd", name)
		}
	}
	if pictures := glob(t, "../docs/img/*.svg"); len(pictures) != len(sources) || len(sources) < 8 {
		t.Errorf("%d sources and %d pictures", len(sources), len(pictures))
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func markdown(t *testing.T) (files []string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		hidden := len(d.Name()) > 2 && strings.HasPrefix(d.Name(), ".") && d.Name() != ".github"
		if err == nil && d.IsDir() && (hidden || path == "../bin") {
			return filepath.SkipDir
		}
		if err == nil && strings.HasSuffix(path, ".md") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// headings are the anchors of a document, as GitHub makes them: lower case, blanks become hyphens, other punctuation
// goes.
func headings(text string) map[string]bool {
	anchors := map[string]bool{}
	for line := range strings.Lines(text) {
		title := strings.TrimLeft(line, "#")
		if title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		anchors[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(title))] = true
	}
	return anchors
}
