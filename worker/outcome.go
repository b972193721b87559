package worker

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// statusMeaning is what a status of HTTP says about a call. NATS services use the same numbers for their errors.
func statusMeaning(code int) Status {
	switch code {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusUnsupportedMediaType,
		http.StatusUnprocessableEntity, http.StatusRequestHeaderFieldsTooLarge:
		return Reject
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusProxyAuthRequired:
		return Unavailable // A wrong address or key is no fault of the messages, and must not use them up.
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return Unavailable
	case http.StatusGone:
		return Pause // Webhook specifications read it as "stop sending".
	}
	switch code / 100 {
	case 2:
		return OK
	case 3:
		return Unavailable // Not followed: the address is wrong.
	}
	return Retry
}

// statusResult is what an answer with a status means, of which text says why.
func statusResult(code int, text string, h map[string][]string) Result {
	r := Result{Status: statusMeaning(code)}
	if r.Status == OK {
		return r
	}
	r.Reason = strconv.Itoa(code)
	if name := http.StatusText(code); name != "" {
		r.Reason += " " + name
	}
	if text != "" {
		r.Reason = oneLine(r.Reason + ": " + text)
	}
	if r.Status == Retry || r.Status == Unavailable {
		r.After = retryAfter(first(h, "Retry-After"), first(h, "Date"), time.Now())
	}
	return r
}

// retryAfter reads a Retry-After header: seconds, or a date. A date is held against the sender's own clock, if it says
// what that shows, since ours may be far off. 0 is nothing that could be obeyed.
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

// validateOKStatus reports codes that ok_status cannot list.
func validateOKStatus(fault faultFunc, codes []int) {
	for _, code := range codes {
		if code < 300 || code > 599 {
			fault("ok_status", "must list statuses from 300 to 599, like [409]; has %d", code)
		}
	}
}
