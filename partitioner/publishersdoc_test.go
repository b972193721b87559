package partitioner

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const publishersDoc = "../docs/publishers.md"

// keyVector is a key with its token, for publishers in any language.
type keyVector struct{ Key, Token string }

func keyVectors(t *testing.T) []keyVector {
	t.Helper()
	text, err := os.ReadFile("testdata/keys.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []keyVector
	if err := json.Unmarshal(text, &all); err != nil || len(all) == 0 {
		t.Fatalf("%d vectors, %v", len(all), err)
	}
	return all
}

func TestKeyVectors(t *testing.T) {
	for _, v := range keyVectors(t) {
		if got, err := EncodeKey(v.Key); err != nil || got != v.Token {
			t.Errorf("%q became %q, %v; want %q", v.Key, got, err, v.Token)
		}
	}
}

// TestDocumentHasTheKeyVectors holds the table of docs/publishers.md to them.
func TestDocumentHasTheKeyVectors(t *testing.T) {
	text, err := os.ReadFile(publishersDoc)
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `(.*?)`(?: \\(.*\\))? \\| `(.*)` \\|$").FindAllStringSubmatch(string(text), -1)
	var listed []keyVector
	for _, row := range rows {
		listed = append(listed, keyVector{strings.ReplaceAll(row[1], `\t`, "\t"), row[2]})
	}
	if want := keyVectors(t); fmt.Sprintf("%q", listed) != fmt.Sprintf("%q", want) {
		t.Errorf("the table is\n%q, want\n%q", listed, want)
	}
}

// documented is the first block of a language in docs/publishers.md: its function that encodes keys.
func documented(t *testing.T, language string) string {
	t.Helper()
	text, err := os.ReadFile(publishersDoc)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```"+language+"\n")
	code, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatalf("there is no block of %s", language)
	}
	return code
}

// TestDocumentedKeyFunctions runs the functions of docs/publishers.md on every vector, in the languages that are
// installed. Python and Go always are: other tests need them.
func TestDocumentedKeyFunctions(t *testing.T) {
	for _, l := range []struct{ language, file, before, after, run string }{
		{"python", "keys.py", "import sys\n",
			"for line in sys.stdin.buffer.read().split(b'\\x00')[:-1]:\n    print(key_token(line.decode()))\n",
			"python3 keys.py"},
		{"js", "keys.js", "", `for (const key of require("fs").readFileSync(0, "utf8").split("\0").slice(0, -1))
			console.log(keyToken(key));`, "node keys.js"},
		{"java", "Keys.java", "class Keys {\n", `public static void main(String[] a) throws Exception {
			for (String key : new String(System.in.readAllBytes(), "UTF-8").split("\0")) System.out.println(keyToken(key));
		}}`, "java Keys.java"},
		{"go", "keys.go", "package main\nimport (\"errors\"; \"fmt\"; \"io\"; \"os\"; \"strings\")\n", `func main() {
			in, _ := io.ReadAll(os.Stdin)
			for _, key := range strings.Split(strings.TrimSuffix(string(in), "\x00"), "\x00") {
				token, err := KeyToken(key)
				fmt.Println(token)
				if err != nil { panic(err) }
			}
		}`, "go run keys.go"},
	} {
		program, args, _ := strings.Cut(l.run, " ")
		if _, err := exec.LookPath(program); err != nil && l.language != "python" && l.language != "go" {
			t.Logf("%s is not installed: its function is not run", program)
			continue
		}
		dir := t.TempDir()
		text := l.before + documented(t, l.language) + l.after
		if err := os.WriteFile(filepath.Join(dir, l.file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		wantTokens(t, exec.Command(program, strings.Fields(args)...), dir)
	}
}

// wantTokens gives a program every key, each with a NUL behind it, and wants a line with its token for each.
func wantTokens(t *testing.T, cmd *exec.Cmd, dir string) {
	t.Helper()
	var in, errs bytes.Buffer
	var want strings.Builder
	for _, v := range keyVectors(t) {
		in.WriteString(v.Key + "\x00")
		want.WriteString(v.Token + "\n")
	}
	cmd.Dir, cmd.Stdin, cmd.Stderr = dir, &in, &errs
	out, err := cmd.Output()
	if err != nil || string(out) != want.String() {
		t.Errorf("%v gave\n%s, want\n%s%v\n%s", cmd.Args, out, want.String(), err, errs.String())
	}
}
