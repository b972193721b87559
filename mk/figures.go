//go:build ignore

// Reads `go list -json` of a module and prints what its code looks like in numbers. mk/figures.sh runs it.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

type pkg struct {
	ImportPath, Dir string
	GoFiles         []string // Without tests.
	Imports         []string
}

// wings are the parts of the tree whose lines are counted apart: the product, what tests it, and the tests themselves.
const (
	product = "product"
	harness = "harness"
	tests   = "tests"
)

// figures is what was counted.
type figures struct {
	fset    *token.FileSet
	lines   map[string]int
	funcs   []int          // Lengths in lines, of the product's and the harness's code.
	methods map[string]int // By package and receiver.
}

func main() {
	log.SetFlags(0)
	pkgs, err := read(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	f := &figures{fset: token.NewFileSet(), lines: map[string]int{}, methods: map[string]int{}}
	for _, p := range pkgs {
		if err := f.count(p); err != nil {
			log.Fatal(err)
		}
	}
	f.print(pkgs)
}

func read(r io.Reader) (pkgs []pkg, err error) {
	for dec := json.NewDecoder(r); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs, nil
		} else if err != nil {
			return nil, err
		}
		pkgs = append(pkgs, p)
	}
}

// wing says whose lines those of a package are, tests apart.
func wing(path string) string {
	for _, of := range []string{"/internal/harness", "/examples", "/cluster/lease/sim"} {
		if strings.Contains(path+"/", of+"/") {
			return harness
		}
	}
	return product
}

// count counts the files of one package. It looks into the folder, because a build tag may keep tests out of the list.
func (f *figures) count(p pkg) error {
	files, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
	if err != nil {
		return err
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		lines := bytes.Count(text, []byte("\n"))
		if strings.HasSuffix(path, "_test.go") {
			f.lines[tests] += lines
			continue
		}
		f.lines[wing(p.ImportPath)] += lines
		file, err := parser.ParseFile(f.fset, path, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		f.functions(p.ImportPath, file)
	}
	return nil
}

func (f *figures) functions(path string, file *ast.File) {
	for _, d := range file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		f.funcs = append(f.funcs, f.fset.Position(fn.End()).Line-f.fset.Position(fn.Pos()).Line+1)
		if fn.Recv != nil {
			f.methods[path+"."+receiver(fn.Recv.List[0].Type)]++
		}
	}
}

// receiver is the name of a receiver's type.
func receiver(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.StarExpr:
		return receiver(t.X)
	case *ast.IndexExpr:
		return receiver(t.X)
	case *ast.IndexListExpr:
		return receiver(t.X)
	case *ast.Ident:
		return t.Name
	}
	return "?"
}

func (f *figures) print(pkgs []pkg) {
	module, _, _ := strings.Cut(pkgs[0].ImportPath, "/")
	fmt.Printf("packages: %d\n", len(pkgs))
	sizes := slices.Clone(pkgs)
	slices.SortFunc(sizes, func(a, b pkg) int { return cmp.Compare(len(b.GoFiles), len(a.GoFiles)) })
	over := 0
	for _, p := range pkgs {
		if len(p.GoFiles) > 15 {
			over++
		}
	}
	fmt.Printf("files of a package, without tests: median %d, packages with more than 15: %d, largest:",
		len(sizes[len(sizes)/2].GoFiles), over)
	for _, p := range sizes[:min(5, len(sizes))] {
		fmt.Printf(" %s %d", short(p.ImportPath, module), len(p.GoFiles))
	}
	fmt.Println()
	f.printImports(pkgs, module)
	f.printMethods(module)
	fmt.Printf("lines: product %d, harness and examples %d, tests %d\n",
		f.lines[product], f.lines[harness], f.lines[tests])
	slices.Sort(f.funcs)
	at := func(percent int) int { return f.funcs[min(len(f.funcs)*percent/100, len(f.funcs)-1)] }
	fmt.Printf("functions without tests: %d; lines: median %d, p90 %d, p99 %d, longest %d\n",
		len(f.funcs), at(50), at(90), at(99), at(100))
}

// printImports prints how many arrows run between packages of the module.
func (f *figures) printImports(pkgs []pkg, module string) {
	all, most := 0, pkg{}
	out := map[string]int{}
	for _, p := range pkgs {
		for _, i := range p.Imports {
			if strings.HasPrefix(i, module+"/") {
				all++
				out[p.ImportPath]++
			}
		}
		if out[p.ImportPath] > out[most.ImportPath] {
			most = p
		}
	}
	fmt.Printf("imports between packages: %d, most by %s: %d\n", all, short(most.ImportPath, module), out[most.ImportPath])
}

func (f *figures) printMethods(module string) {
	names := make([]string, 0, len(f.methods))
	for name := range f.methods {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(f.methods[b], f.methods[a]), cmp.Compare(a, b))
	})
	fmt.Print("methods on one type, most:")
	for _, name := range names[:min(5, len(names))] {
		fmt.Printf(" %s %d", short(name, module), f.methods[name])
	}
	fmt.Println()
}

func short(path, module string) string { return strings.TrimPrefix(path, module+"/") }
