package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"sort"
	"strconv"

	"leasehold/internal/jsondata"
	"leasehold/worker/handler"
	"leasehold/worker/header"
)

// MaxReply bounds how much of an answer to a batch is read, in bytes.
const MaxReply = 64 << 10

// ndjson is the content type of a batch outside subprocess.
const ndjson = "application/x-ndjson"

// EncodeBatch prints messages, one a line, as many of them as fit into limit bytes, at least one.
func EncodeBatch(ms []*handler.Message, limit int) (body []byte, n int, err error) {
	for n, m := range ms {
		line, err := EncodeLine(NewMessageLine(m))
		if err != nil {
			return nil, 0, err
		}
		if n > 0 && len(body)+len(line) > limit {
			return body, n, nil
		}
		body = append(body, line...)
	}
	return body, len(ms), nil
}

// BatchID identifies a batch: batches with the same first and last message of a partition have the same id.
func BatchID(ms []*handler.Message) string {
	return ms[0].ID + "-" + strconv.FormatUint(ms[len(ms)-1].Seq, 10)
}

// batchFields is what the messages of a batch have in common.
func batchFields(ms []*handler.Message) []handler.Field {
	m := ms[0]
	return []handler.Field{
		{Name: header.Prefix + "Id", Value: BatchID(ms)},
		{Name: header.Prefix + "Topic", Value: m.Topic},
		{Name: header.Prefix + "Group", Value: m.Group},
		{Name: header.Prefix + "Node", Value: m.Node},
		{Name: header.Prefix + "Partition", Value: strconv.Itoa(m.Partition)},
		{Name: header.Prefix + "First-Seq", Value: strconv.FormatUint(m.Seq, 10)},
		{Name: header.Prefix + "Last-Seq", Value: strconv.FormatUint(ms[len(ms)-1].Seq, 10)},
		{Name: header.Prefix + "Messages", Value: strconv.Itoa(len(ms))},
		{Name: header.Prefix + "Epoch", Value: strconv.FormatUint(m.Epoch, 10)},
		{Name: header.Prefix + "Timeout-Ms", Value: strconv.FormatInt(m.Timeout.Milliseconds(), 10)},
	}
}

// contradiction is the result of a batch whose reply contradicts itself or the batch. The reply is ignored.
func contradiction(format string, args ...any) handler.BatchResult {
	return handler.BatchResult{Result: handler.Result{Status: handler.Retry,
		Reason: header.OneLine("unbelievable answer to a batch: " + fmt.Sprintf(format, args...))}}
}

// ParseBatchReply reads a service's reply to a batch: nothing, which means that all is done, or JSON.
func ParseBatchReply(body []byte, ms []*handler.Message) handler.BatchResult {
	body = bytes.TrimSpace(jsondata.TrimBOM(body))
	var a Reply
	switch {
	case len(body) == 0:
		return handler.BatchResult{OK: len(ms)}
	case len(body) > MaxReply:
		return contradiction("more than %d bytes", MaxReply)
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return contradiction("%s in %q", err, header.Cut(header.OneLine(string(body)), 256))
	}
	return a.BatchResult(ms)
}

// statusPartial says that a part of a batch, from its beginning, is done.
const statusPartial = "partial"

// BatchResult converts the reply to a batch.
func (a Reply) BatchResult(ms []*handler.Message) handler.BatchResult {
	switch named := a.OKThrough != nil || a.Failed != nil; {
	case a.Status == statusPartial, named && (a.Status == string(handler.OK) || a.Status == ""):
		return a.partial(ms)
	case a.Status == string(handler.OK):
		return handler.BatchResult{OK: len(ms)}
	}
	return handler.BatchResult{Result: a.Result()}
}

// partial converts a reply that says how far the batch is done, and perhaps which message failed. Only a prefix can
// have succeeded, so the failed message is the one after it.
func (a Reply) partial(ms []*handler.Message) handler.BatchResult {
	var through uint64
	if a.OKThrough != nil {
		through = *a.OKThrough
	}
	if last := ms[len(ms)-1].Seq; through > last {
		return contradiction("ok_through is %d, and the batch ends at %d", through, last)
	}
	done := sort.Search(len(ms), func(i int) bool { return ms[i].Seq > through })
	switch {
	case a.Failed == nil && done == len(ms):
		return handler.BatchResult{OK: done}
	case a.Failed == nil:
		reason := a.Reason
		if reason == "" {
			reason = fmt.Sprintf("handler did not say why it stopped before message %d", ms[done].Seq)
		}
		return handler.BatchResult{OK: done, Result: handler.Result{Status: handler.Retry, Reason: header.OneLine(reason),
			After: milliseconds(a.AfterMS)}}
	case done == len(ms) || a.Failed.Seq != ms[done].Seq:
		return contradiction("message %d has failed, and all up to %d is done", a.Failed.Seq, through)
	case a.Failed.Status == string(handler.OK):
		return contradiction("message %d has failed, with status ok", a.Failed.Seq)
	}
	return handler.BatchResult{OK: done, Result: a.Failed.Result(), Named: true}
}

// BatchHeader returns the headers of a batch, except those of its transport.
func BatchHeader(ms []*handler.Message) http.Header {
	h := http.Header{"Content-Type": {ndjson}}
	for _, f := range batchFields(ms) {
		h[f.Name] = []string{header.Escape(f.Value, header.IsControl)}
	}
	return h
}
