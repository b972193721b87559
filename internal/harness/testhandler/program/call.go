package main

import (
	"os"
	"strconv"

	"leasehold/internal/harness/history"
	"leasehold/internal/harness/monotonic"
	"leasehold/sdk"
)

// agent is the node that started this process: another parent means that it is gone.
var agent = os.Getppid()

// begin logs the start of a call.
func (l callLog) begin(c *history.Call) {
	c.PID, c.Start = os.Getpid(), monotonic.Now()
	l.append(*c)
}

// end logs the end of a call with its result, before the answer is given.
func (l callLog) end(c *history.Call, result string) {
	c.End, c.Result = monotonic.Now(), result
	l.append(*c)
}

func callOf(m *sdk.Message) history.Call {
	return history.Call{
		Node: m.Node, Agent: agent, Group: m.Group, Partition: m.Partition, Epoch: m.Epoch, Seq: m.Seq,
		Attempt: m.Attempt, Key: m.Key, ID: m.IdempotencyKey,
	}
}

// callOfFields makes a call of the fields that exec, http and nats pass on by name.
func callOfFields(get func(name string) string) history.Call {
	c := history.Call{Node: get("node"), Group: get("group"), Key: get("key"), ID: get("idempotency_key")}
	c.Partition, _ = strconv.Atoi(get("partition"))
	c.Attempt, _ = strconv.Atoi(get("attempt"))
	c.Seq, _ = strconv.ParseUint(get("seq"), 10, 64)
	c.Epoch, _ = strconv.ParseUint(get("epoch"), 10, 64)
	return c
}
