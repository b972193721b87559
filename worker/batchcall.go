package worker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"sort"
	"strconv"

	"leasehold/internal/jsondata"
)

// maxReply bounds how much of an answer to a batch is read, in bytes.
const maxReply = 64 << 10

// ndjson is the content type of a batch outside subprocess.
const ndjson = "application/x-ndjson"

// encodeBatch prints messages, one a line, as many of them as fit into limit bytes, at least one.
func encodeBatch(ms []*Message, limit int) (body []byte, n int, err error) {
	for n, m := range ms {
		line, err := encodeLine(newMessageLine(m))
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

// batchID tells batches apart: from the same message to the same message of a partition it is always the same batch.
func batchID(ms []*Message) string {
	return ms[0].ID + "-" + strconv.FormatUint(ms[len(ms)-1].Seq, 10)
}

// batchFields is what the messages of a batch have in common.
func batchFields(ms []*Message) []field {
	m := ms[0]
	return []field{
		{headerPrefix + "Id", batchID(ms)},
		{headerPrefix + "Topic", m.Topic},
		{headerPrefix + "Group", m.Group},
		{headerPrefix + "Node", m.Node},
		{headerPrefix + "Partition", strconv.Itoa(m.Partition)},
		{headerPrefix + "First-Seq", strconv.FormatUint(m.Seq, 10)},
		{headerPrefix + "Last-Seq", strconv.FormatUint(ms[len(ms)-1].Seq, 10)},
		{headerPrefix + "Messages", strconv.Itoa(len(ms))},
		{headerPrefix + "Epoch", strconv.FormatUint(m.Epoch, 10)},
		{headerPrefix + "Timeout-Ms", strconv.FormatInt(m.Timeout.Milliseconds(), 10)},
	}
}

// unbelievable is the result of a batch whose answer contradicts itself or the batch. Nothing of it is believed.
func unbelievable(format string, args ...any) BatchResult {
	return BatchResult{Result: Result{Status: Retry, Reason: oneLine("unbelievable answer to a batch: " + fmt.Sprintf(format, args...))}}
}

// parseBatchReply reads what a service has answered to a batch: nothing, which means that all is done, or JSON.
func parseBatchReply(body []byte, ms []*Message) BatchResult {
	body = bytes.TrimSpace(jsondata.TrimBOM(body))
	var a answer
	switch {
	case len(body) == 0:
		return BatchResult{OK: len(ms)}
	case len(body) > maxReply:
		return unbelievable("more than %d bytes", maxReply)
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return unbelievable("%s in %q", err, cut(oneLine(string(body)), 256))
	}
	return a.batchResult(ms)
}

// statusPartial says that a part of a batch, from its beginning, is done.
const statusPartial = "partial"

// batchResult is what the answer to a batch means.
func (a answer) batchResult(ms []*Message) BatchResult {
	switch named := a.OKThrough != nil || a.Failed != nil; {
	case a.Status == statusPartial, named && (a.Status == string(OK) || a.Status == ""):
		return a.partial(ms)
	case a.Status == string(OK):
		return BatchResult{OK: len(ms)}
	}
	return BatchResult{Result: a.result()}
}

// partial is what an answer means that names how far the batch is done, and perhaps who failed. Only a prefix can have
// succeeded, so the failed message is the one behind it.
func (a answer) partial(ms []*Message) BatchResult {
	var through uint64
	if a.OKThrough != nil {
		through = *a.OKThrough
	}
	if last := ms[len(ms)-1].Seq; through > last {
		return unbelievable("ok_through is %d, and the batch ends at %d", through, last)
	}
	done := sort.Search(len(ms), func(i int) bool { return ms[i].Seq > through })
	switch {
	case a.Failed == nil && done == len(ms):
		return BatchResult{OK: done}
	case a.Failed == nil:
		reason := a.Reason
		if reason == "" {
			reason = fmt.Sprintf("handler did not say why it stopped before message %d", ms[done].Seq)
		}
		return BatchResult{OK: done, Result: Result{Status: Retry, Reason: oneLine(reason), After: milliseconds(a.AfterMS)}}
	case done == len(ms) || a.Failed.Seq != ms[done].Seq:
		return unbelievable("message %d has failed, and all up to %d is done", a.Failed.Seq, through)
	case a.Failed.Status == string(OK):
		return unbelievable("message %d has failed, with status ok", a.Failed.Seq)
	}
	return BatchResult{OK: done, Result: a.Failed.result(), Named: true}
}

// batchHeader are the headers of a batch but for those of its transport.
func batchHeader(ms []*Message) http.Header {
	header := http.Header{"Content-Type": {ndjson}}
	for _, f := range batchFields(ms) {
		header[f.name] = []string{escape(f.value, isControl)}
	}
	return header
}
