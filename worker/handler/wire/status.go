package wire

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"leasehold/worker/handler"
	"leasehold/worker/header"
)

// StatusOf maps an HTTP status code to the status of a call. NATS services use the same codes for their errors.
func StatusOf(code int) handler.Status {
	switch code {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong,
		http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusRequestHeaderFieldsTooLarge:
		return handler.Reject
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusProxyAuthRequired:
		return handler.Unavailable // A wrong address or key is no fault of the messages, and must not use them up.
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return handler.Unavailable
	case http.StatusGone:
		return handler.Pause // Webhook specifications read it as "stop sending".
	}
	switch code / 100 {
	case 2:
		return handler.OK
	case 3:
		return handler.Unavailable // Not followed: the address is wrong.
	}
	return handler.Retry
}

// StatusResult converts a response with a status code, a text and headers to a result.
func StatusResult(code int, text string, h map[string][]string) handler.Result {
	r := handler.Result{Status: StatusOf(code)}
	if r.Status == handler.OK {
		return r
	}
	r.Reason = strconv.Itoa(code)
	if name := http.StatusText(code); name != "" {
		r.Reason += " " + name
	}
	if text != "" {
		r.Reason = header.OneLine(r.Reason + ": " + text)
	}
	if r.Status == handler.Retry || r.Status == handler.Unavailable {
		r.After = retryAfter(header.First(h, "Retry-After"), header.First(h, "Date"), time.Now())
	}
	return r
}

// retryAfter reads a Retry-After header: seconds, or a date. A date is compared with the sender's own clock, if its
// response has a date, since ours may be far off. It returns 0 if there is nothing to obey.
func retryAfter(value, date string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseFloat(value, 64); err == nil {
		return milliseconds(seconds * 1000)
	}
	when, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if sent, err := http.ParseTime(date); err == nil {
		now = sent
	}
	return min(max(when.Sub(now), 0), maxAfter)
}

// ValidateOKStatus reports codes that ok_status cannot list.
func ValidateOKStatus(fault handler.FaultFunc, codes []int) {
	for _, code := range codes {
		if code < 300 || code > 599 {
			fault("ok_status", "must list statuses from 300 to 599, like [409]; has %d", code)
		}
	}
}
