package testcluster

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCallTailReadsEachWholeLineOnce(t *testing.T) {
	c := &Cluster{Dir: t.TempDir(), T: t}
	if err := os.Mkdir(c.CallDir(), 0o755); err != nil {
		t.Fatal(err)
	}
	add := func(file, text string) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(c.CallDir(), file), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = f.WriteString(text)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tail := c.TailCalls()
	want := func(ids ...string) {
		t.Helper()
		lines := tail.Next()
		for i := range max(len(lines), len(ids)) {
			if i >= len(lines) || i >= len(ids) || lines[i].ID != ids[i] {
				t.Fatalf("lines %+v, want those of %v", lines, ids)
			}
		}
	}
	want()
	add("g-n1.calls", `{"id":"a"}`+"\n"+`{"id":"a","end":1,"result":"ok"}`+"\n"+`{"id":`)
	want("a", "a")
	want()
	add("g-n1.calls", `"b"}`+"\n")
	add("g-n2.calls", `{"id":"c"}`+"\n")
	want("b", "c")
	want()
}
