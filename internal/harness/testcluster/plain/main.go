// Command plain is a handler that does nothing, for measuring what it takes to call one: what every handler of its kind
// costs, whatever it does.
//
//	plain subprocess
//	plain [-stamps FILE] http ADDRESS
//	plain [-stamps FILE] nats URL USER PASSWORD GROUP
//
// With FILE it writes down there when it answered each call. For subprocess that is in the handler's config, as stamps,
// beside batch = true, with which it asks for batches.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"leasehold/internal/harness/testcluster/stamp"
)

func main() {
	stamps := flag.String("stamps", "", "file for the times of the answers")
	flag.Parse()
	if err := run(*stamps, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "plain:", err)
		os.Exit(1)
	}
}

func run(stamps string, args []string) error {
	log, err := stamp.Open(stamps)
	switch {
	case err != nil:
		return err
	case len(args) == 1 && args[0] == "subprocess":
		return subprocess(os.Stdin, os.Stdout)
	case len(args) == 2 && args[0] == "http":
		return serveHTTP(log, args[1])
	case len(args) == 5 && args[0] == "nats":
		return serveNATS(log, args[1], args[2], args[3], args[4])
	}
	return errors.New("usage: plain [-stamps FILE] subprocess | http ADDRESS | nats URL USER PASSWORD GROUP")
}
