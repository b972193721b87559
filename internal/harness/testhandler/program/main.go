// Command program is every handler that tests call, in one binary.
//
//	program log                               logs its calls (log.go)
//	program told subprocess DIR               answers as its messages say (told.go)
//	program told exec DIR
//	program told http DIR ADDRESS
//	program told nats DIR URL USER PASSWORD GROUP
//	program plain [-batch] [-stamps FILE] subprocess    does nothing (plain.go)
//	program plain [-stamps FILE] http ADDRESS
//	program plain [-stamps FILE] nats URL USER PASSWORD GROUP
package main

import (
	"errors"
	"fmt"
	"os"
)

var shapes = map[string]func(args []string) error{"log": runLog, "told": runTold, "plain": runPlain}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ERROR test handler:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 || shapes[args[0]] == nil {
		return errors.New("usage: program log|told|plain …")
	}
	return shapes[args[0]](args[1:])
}
