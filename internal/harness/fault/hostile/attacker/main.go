// Command attacker makes the assault that it reads from its input, and writes what came of it. It is a process of its
// own so that it can have less of the processor than those it attacks, as if it ran on another machine.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"leasehold/internal/harness/fault/hostile"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "attacker:", err)
		os.Exit(1)
	}
}

func run() error {
	var a hostile.Assault
	if err := json.NewDecoder(os.Stdin).Decode(&a); err != nil {
		return fmt.Errorf("read the assault: %w", err)
	}
	count, err := a.Run(context.Background())
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(count)
}
