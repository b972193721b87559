// Command exec is a handler of kind exec that does nothing: for measuring what it takes to start a small program for
// each message. With an argument it writes down there when it answered.
package main

import (
	"fmt"
	"os"
	"strconv"

	"leasehold/internal/harness/testhandler"
)

func main() {
	if len(os.Args) < 2 {
		return
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "ERROR test handler:", err)
		os.Exit(1)
	}
}

func write(name string) error {
	partition, _ := strconv.Atoi(os.Getenv("LEASEHOLD_PARTITION"))
	seq, err := strconv.ParseUint(os.Getenv("LEASEHOLD_SEQ"), 10, 64)
	if err != nil {
		return err
	}
	log, err := testhandler.OpenStamps(name)
	if err != nil {
		return err
	}
	return log.Write(testhandler.Answered(partition, seq, seq))
}
