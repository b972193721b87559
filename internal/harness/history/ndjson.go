package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Record is what a history file holds, one JSON object a line.
type Record interface {
	PublishRecord | Call | Event
}

// Write writes one line for each record.
func Write[T Record](w io.Writer, records []T) error {
	buf := bufio.NewWriter(w)
	enc := json.NewEncoder(buf)
	for i := range records {
		if err := enc.Encode(&records[i]); err != nil {
			return fmt.Errorf("write record %d: %w", i+1, err)
		}
	}
	return buf.Flush()
}

// Read reads the lines that Write wrote. Call logs, which hold two lines for a
// call, are read by ReadCalls.
func Read[T Record](r io.Reader) ([]T, error) {
	var records []T
	dec := json.NewDecoder(r)
	for {
		var rec T
		switch err := dec.Decode(&rec); {
		case errors.Is(err, io.EOF):
			return records, nil
		case err != nil:
			return records, fmt.Errorf("read record %d: %w", len(records)+1, err)
		}
		records = append(records, rec)
	}
}

// ReadCalls reads a call log: a handler appends the call when it starts
// (without end) and the same call, with end and result, when it is over. The
// two lines are joined to one Call. An end that no start precedes becomes a
// call with Start 0, for Check to find. Several handlers may share a log.
func ReadCalls(r io.Reader) ([]Call, error) {
	lines, err := Read[Call](r)
	if err != nil {
		return nil, err
	}
	calls := make([]Call, 0, len(lines)/2+1)
	running := make(map[Call]int) // the start line → its place in calls
	for _, line := range lines {
		start := line
		start.End, start.Result = 0, ""
		i, started := running[start]
		switch {
		case line.open():
			running[start] = len(calls)
			calls = append(calls, line)
		case started:
			calls[i] = line
			delete(running, start)
		default:
			line.Start = 0
			calls = append(calls, line)
		}
	}
	return calls, nil
}
