package partitioner

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestOfNeverChanges(t *testing.T) {
	f, err := os.Open("testdata/golden.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := 0
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if strings.HasPrefix(sc.Text(), "#") {
			continue
		}
		fields := strings.SplitN(sc.Text(), "\t", 3)
		n, err1 := strconv.Atoi(fields[0])
		want, err2 := strconv.Atoi(fields[1])
		if err1 != nil || err2 != nil {
			t.Fatalf("bad line %q", sc.Text())
		}
		if got := Of(n, strings.Split(fields[2], "|")...); got != want {
			t.Errorf("Of(%d, %q) is %d, was %d", n, fields[2], got, want)
		}
		lines++
	}
	if lines < 500 {
		t.Errorf("only %d vectors", lines)
	}
}

func TestOfWithoutPartitionsIsZero(t *testing.T) {
	if Of(0, "a") != 0 || Of(-3, "a") != 0 {
		t.Error("Of of no partitions is not 0")
	}
}
