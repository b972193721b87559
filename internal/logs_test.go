package internal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// logCall is one call of a logger with a constant message.
type logCall struct {
	level string
	keys  []string // Those that stand at the call; a logger made with With has more.
}

// TestLogsPageListsMessagesOfTheCode holds docs/logs.md to the code: every message that an operator may alert on is
// logged, as a constant, with the level and the keys that the page names.
func TestLogsPageListsMessagesOfTheCode(t *testing.T) {
	logged := logCalls(t)
	row := regexp.MustCompile("(?m)^\\| `(.+?)` \\| (error|warn|info) \\| (.*?) \\|")
	rows := row.FindAllStringSubmatch(read(t, "../docs/logs.md"), -1)
	for _, row := range rows {
		message, level, keys := row[1], row[2], quotedIn(row[3])
		calls := logged[message]
		if len(calls) == 0 {
			t.Errorf("docs/logs.md lists %q, which nothing logs", message)
			continue
		}
		if !slices.ContainsFunc(calls, func(c logCall) bool { return c.level == level && containsAll(c.keys, keys) }) {
			t.Errorf("docs/logs.md lists %q as %s with %q, the code has %+v", message, level, keys, calls)
		}
	}
	if len(rows) < 30 {
		t.Errorf("only %d messages were found in docs/logs.md", len(rows))
	}
}

func quotedIn(cell string) (names []string) {
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
		names = append(names, m[1])
	}
	return names
}

func containsAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(k string) bool { return !slices.Contains(have, k) })
}

// logCalls finds the calls of loggers in the product, by their message without backquotes.
func logCalls(t *testing.T) map[string][]logCall {
	t.Helper()
	calls := map[string][]logCall{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(d.Name(), ".") && d.Name() != ".."
		if d.IsDir() && (hidden || d.Name() == "harness" || d.Name() == "examples") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if message, call, ok := asLogCall(n); ok {
				calls[message] = append(calls[message], call)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

// asLogCall reads a call such as log.Warn("message", "key", value).
func asLogCall(n ast.Node) (message string, call logCall, ok bool) {
	c, ok := n.(*ast.CallExpr)
	if !ok || len(c.Args) == 0 {
		return "", call, false
	}
	f, ok := c.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains([]string{"Error", "Warn", "Info"}, f.Sel.Name) {
		return "", call, false
	}
	call.level = strings.ToLower(f.Sel.Name)
	for _, arg := range c.Args[1:] {
		if key, ok := constant(arg); ok {
			call.keys = append(call.keys, key)
		}
	}
	message, ok = constant(c.Args[0])
	return strings.ReplaceAll(message, "`", ""), call, ok
}

// constant returns the text of a string literal, or of several that are added up.
func constant(e ast.Expr) (string, bool) {
	if sum, ok := e.(*ast.BinaryExpr); ok && sum.Op == token.ADD {
		left, isLeft := constant(sum.X)
		right, isRight := constant(sum.Y)
		return left + right, isLeft && isRight
	}
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}
