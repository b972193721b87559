package internal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// `make test` leaves out what skips itself under -short, and `make test-long` runs what is named TestLong…. A test that
// is one and not the other would run in neither of them, or in both.
func TestEveryTestIsOfOneTier(t *testing.T) {
	long := 0
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			named, skips := strings.HasPrefix(f.Name.Name, "TestLong"), asksForShort(f)
			switch {
			case named && !skips:
				t.Errorf("%s: %s must begin with: if testing.Short() { t.Skip(…) }", path, f.Name.Name)
			case skips && !named:
				t.Errorf("%s: %s asks for testing.Short: make test-long runs only what is named TestLong…", path, f.Name.Name)
			case named:
				long++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if long == 0 {
		t.Error("no long test was found")
	}
}

// asksForShort reports whether a function calls testing.Short.
func asksForShort(f *ast.FuncDecl) (asks bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if s, ok := call.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Short" {
				x, ok := s.X.(*ast.Ident)
				asks = asks || ok && x.Name == "testing"
			}
		}
		return true
	})
	return asks
}
