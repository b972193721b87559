// Package sdk is for handlers of kind subprocess that are written in Go. It reads the node's lines from stdin, calls
// functions of the program, and writes the answers:
//
//	func main() {
//		err := sdk.Run(context.Background(), sdk.Handler{
//			Handle: func(ctx context.Context, m *sdk.Message) error {
//				return store(ctx, m.Key, m.Data)
//			},
//		})
//		if err != nil {
//			log.Fatal(err)
//		}
//	}
//
// # Results
//
// nil means that the message is done. An error is a failed attempt: the message is retried after the group's backoff.
// Retry, Reject, Unavailable and Pause make errors that say something else; they are found in wrapped errors, too. A
// panic is a failed attempt, and its stack goes to stderr.
//
// # Order
//
// Calls and notifications about one partition never overlap, and come in order. Without Parallel nothing overlaps at
// all. With Parallel, several partitions are handled at the same time.
//
// # Contexts
//
// A call's context ends at the message's timeout, and when the node is gone. A call should return then: the node kills
// a process that takes longer than the timeout, and a call that continues without its node may overlap with one of the
// partition's next owner. The store can refuse such a late call if Epoch and Seq are kept beside the effect.
//
// # Standard streams
//
// Run moves the protocol away from descriptor 1, and what is written there goes to stderr. So a stray fmt.Println, or a
// child process that inherits stdout, ends up in the node's log and cannot break the protocol. stderr is the log: one
// entry per line, at the level that its first word names (ERROR, WARN, INFO, DEBUG), else INFO.
//
// # Sizes
//
// Lines from the node have no limit here; the node's max_payload bounds them, at about 6.1 MiB for 1 MiB of payload. A
// reason is cut at 2 KiB, as the node would do.
//
// The package uses the standard library only. The protocol is described in docs/handlers.md.
package sdk
