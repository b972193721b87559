package freeport

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// otherVariable makes this test binary another process with a block of its own.
const otherVariable = "LEASEHOLD_TEST_FREEPORT"

func TestMain(m *testing.M) {
	if os.Getenv(otherVariable) == "" {
		os.Exit(m.Run())
	}
	first, err := Row(1)
	fmt.Println(first, err)
}

func TestRowsAreFreeAndDoNotOverlap(t *testing.T) {
	seen := make(map[int]bool)
	for range size / 9 {
		first, err := Row(9)
		if err != nil {
			t.Fatal(err)
		}
		for port := first; port < first+9; port++ {
			if seen[port] {
				t.Fatalf("port %d was given twice", port)
			}
			seen[port] = true
		}
	}
}

func TestUsedPortIsSkipped(t *testing.T) {
	first, err := Row(1)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", block.first+(block.next+1)%size))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	used := l.Addr().(*net.TCPAddr).Port
	for range 4 {
		row, err := Row(3)
		if err != nil {
			t.Fatal(err)
		}
		if row <= used && used < row+3 {
			t.Errorf("after %d, a row from %d on has the used port %d", first, row, used)
		}
	}
	if _, err := Row(size + 1); err == nil {
		t.Error("a row longer than the block was found")
	}
}

func TestOtherProcessHasAnotherBlock(t *testing.T) {
	if _, err := Row(1); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), otherVariable+"=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(out), " ")
	port, err := strconv.Atoi(text)
	if err != nil || port >= block.first && port < block.first+size {
		t.Errorf("this process has the ports from %d on, the other one said %q", block.first, out)
	}
}
