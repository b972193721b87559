package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client asks an agent.
type Client struct {
	target string // As the user gave it, for messages.
	base   string
	http   *http.Client
}

// askTimeout bounds one question, so that an agent that is stopped or overloaded is noticed.
const askTimeout = 15 * time.Second

// NewClient returns a client of the agent at a socket path (anything with a slash) or host:port.
func NewClient(target string) *Client {
	c := &Client{target: target, base: "http://" + target, http: &http.Client{Timeout: askTimeout}}
	transport := &http.Transport{DisableKeepAlives: true}
	if strings.Contains(target, "/") {
		c.base = "http://agent"
		transport.DialContext = func(context.Context, string, string) (net.Conn, error) { return dialUnix(target) }
	}
	c.http.Transport = transport
	return c
}

// Target is the address that the client was made with.
func (c *Client) Target() string { return c.target }

// Status asks what the node knows about its cluster.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	var s Status
	if err := c.get(ctx, "/v1/status", &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// Ready asks what the node waits for; nothing means that it is ready.
func (c *Client) Ready(ctx context.Context) ([]string, error) {
	var r Readiness
	err := c.get(ctx, "/readyz", &r)
	if errors.Is(err, ErrNotYet) && len(r.Reasons) > 0 {
		return r.Reasons, nil
	}
	return r.Reasons, err
}

// Topic asks about a topic.
func (c *Client) Topic(ctx context.Context, name string) (TopicInfo, error) {
	var t TopicInfo
	err := c.get(ctx, "/v1/topics/"+url.PathEscape(name), &t)
	return t, err
}

// get reads the answer into out, whatever its status code, and turns the code into an error.
func (c *Client) get(ctx context.Context, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return fmt.Errorf("%w at %q: %w", ErrUnreachable, c.target, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.target, cause(err))
	}
	defer resp.Body.Close()
	var body json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return fmt.Errorf("%w at %s: what answers there (%s) is no agent", ErrUnreachable, c.target, resp.Status)
	}
	if err := codeError(resp.StatusCode, body); err != nil {
		_ = json.Unmarshal(body, out) // The reasons of a node that is not ready; anything else stays empty.
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("read the agent's answer to %s: %w", path, err)
	}
	return nil
}

func codeError(code int, body []byte) error {
	if code == http.StatusOK {
		return nil
	}
	var f failure
	_ = json.Unmarshal(body, &f) // A body without a text leaves the code to speak.
	if f.Error == "" {
		f.Error = http.StatusText(code)
	}
	switch code {
	case http.StatusNotFound:
		return fmt.Errorf("%w: %s", ErrNotFound, f.Error)
	case http.StatusServiceUnavailable:
		return fmt.Errorf("%w: %s", ErrNotYet, f.Error)
	}
	return fmt.Errorf("agent answers %d: %s", code, f.Error)
}

// cause strips the method and the made-up address that net/http puts before an error.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
