package sdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"leasehold/sdk"
)

// A whole handler.
func ExampleRun() {
	err := sdk.Run(context.Background(), sdk.Handler{
		Handle: func(_ context.Context, m *sdk.Message) error {
			log.Printf("INFO %s: %s", m.Key, m.Data)
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
}

var errDown = errors.New("connection refused")

// What a message's failure means to the node.
func ExampleHandler_results() {
	play(sdk.Handler{
		Handle: func(_ context.Context, m *sdk.Message) error {
			var order struct{ Item string }
			if err := json.Unmarshal(m.Data, &order); err != nil {
				return sdk.Reject(errors.New("not an order")) // It will never work.
			}
			switch order.Item {
			case "slow":
				return sdk.Retry(time.Minute, errors.New("not delivered yet")) // Not sooner than that.
			case "lost":
				return fmt.Errorf("book: %w", sdk.Unavailable(0, errDown)) // Not the message's fault.
			case "odd":
				return errors.New("no such item") // A failed attempt.
			}
			return nil
		},
	}, message(1, `{"item":"tea"}`), message(2, `{"item":"slow"}`), message(3, `{"item":"lost"}`),
		message(4, `{"item":"odd"}`), message(5, `{tea}`))
	// Output:
	// {"type":"ack","id":"0"}
	// {"type":"result","id":"orders/3/1","status":"ok"}
	// {"type":"result","id":"orders/3/2","status":"retry","reason":"not delivered yet","after_ms":60000}
	// {"type":"result","id":"orders/3/3","status":"unavailable","reason":"book: unavailable: connection refused"}
	// {"type":"result","id":"orders/3/4","status":"retry","reason":"no such item"}
	// {"type":"result","id":"orders/3/5","status":"reject","reason":"not an order"}
	// {"type":"ack","id":"9"}
}

// A batch is one transaction here. A message that is not acceptable ends it; those before it are committed.
func ExamplePartial() {
	handle := func(m *sdk.Message) error {
		if string(m.Data) == "bad" {
			return sdk.Reject(errors.New("bad"))
		}
		return nil
	}
	play(sdk.Handler{
		Handle: func(_ context.Context, m *sdk.Message) error { return handle(m) },
		HandleBatch: func(_ context.Context, ms []*sdk.Message) error {
			for i, m := range ms {
				if err := handle(m); err != nil { // Those before it are done.
					return sdk.Partial(i, err)
				}
			}
			return nil
		},
	}, `{"type":"batch","id":"b1","partition":3,"epoch":41,"messages":[`+
		message(7, "good")+","+message(9, "good")+","+message(12, "bad")+","+message(13, "good")+"]}")
	// Output:
	// {"type":"ack","id":"0","wants":["batch"]}
	// {"type":"result","id":"b1","status":"partial","ok_through":9,"failed":{"seq":12,"status":"reject","reason":"bad"}}
	// {"type":"ack","id":"9"}
}

// State per partition is loaded when the partition comes and dropped when it goes.
func ExampleHandler_state() {
	totals := map[int]int{}
	play(sdk.Handler{
		Assign: func(_ context.Context, a sdk.Assignment) error {
			totals[a.Partition] = 100 // From a store.
			return nil
		},
		Handle: func(_ context.Context, m *sdk.Message) error {
			totals[m.Partition]++
			fmt.Println("total", totals[m.Partition], "at epoch", m.Epoch)
			return nil
		},
		Revoke: func(_ context.Context, a sdk.Assignment, reason string) { delete(totals, a.Partition) },
	}, `{"type":"assign","id":"1","partition":3,"epoch":41,"next_seq":7}`, message(7, "x"),
		`{"type":"revoke","id":"2","partition":3,"epoch":41,"reason":"rebalance"}`)
	// Output:
	// {"type":"ack","id":"0"}
	// {"type":"ack","id":"1"}
	// total 101 at epoch 41
	// {"type":"result","id":"orders/3/7","status":"ok"}
	// {"type":"ack","id":"2"}
	// {"type":"ack","id":"9"}
}

// play is a node that says these lines between init and stop.
func play(h sdk.Handler, lines ...string) {
	init := `{"v":1,"type":"init","id":"0","node":"n1","group":"billing","topic":"orders","max_batch":100,"config":{}}`
	all := append(append([]string{init}, lines...), `{"type":"stop","id":"9"}`, "")
	if err := sdk.Serve(context.Background(), h, strings.NewReader(strings.Join(all, "\n")), os.Stdout); err != nil {
		fmt.Println(err)
	}
}

// message is a line of partition 3.
func message(seq int, data string) string {
	text, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"type":"message","id":"orders/3/%d","partition":3,"seq":%d,"epoch":41,"attempt":1,`+
		`"timeout_ms":30000,"data":%s}`, seq, seq, text)
}
