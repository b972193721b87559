package testhandler

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnswersAreFoundBySequence(t *testing.T) {
	name := filepath.Join(t.TempDir(), "stamps")
	log, err := OpenStamps(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Stamp{
		{Partition: 3, First: 7, Last: 7, At: 70}, {Partition: 3, First: 9, Last: 12, At: 90},
		{Partition: 4, First: 8, Last: 8, At: 80},
	} {
		if err := log.Write(c); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	times, err := ReadStamps(strings.NewReader(string(text) + "3 13 13 1")) // The writer was killed.
	if err != nil {
		t.Fatal(err)
	}
	for seq, want := range map[uint64]int64{7: 70, 8: 0, 9: 90, 10: 90, 12: 90, 13: 0} {
		if at, ok := times.Of(3, seq); at != want || ok != (want != 0) {
			t.Errorf("message %d was answered at %d, %t; want %d", seq, at, ok, want)
		}
	}
	if at, ok := times.Of(4, 8); at != 80 || !ok {
		t.Errorf("message 8 of partition 4 was answered at %d, %t", at, ok)
	}
}

func TestWithoutAFileNothingIsWrittenDown(t *testing.T) {
	log, err := OpenStamps("")
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Write(Answered(1, 2, 3)); err != nil {
		t.Error(err)
	}
}

func TestGarbageAmongStampsIsAnError(t *testing.T) {
	if _, err := ReadStamps(strings.NewReader("1 2 3 4\n1 2 x\n")); err == nil {
		t.Error("read it")
	}
}
