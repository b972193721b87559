package api

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"leasehold/internal/api/listen"
	"leasehold/internal/api/reply"
)

// Client asks an agent.
type Client struct {
	target string // As the user gave it, for messages.
	base   string
	token  string
	http   *http.Client
}

// ClientOptions are what a Client needs to be let in by an agent on another machine.
type ClientOptions struct {
	Token string
	TLS   *tls.Config // For an https:// target; nil: the machine's own CAs.
}

// askTimeout bounds one question, so that an agent that is stopped or overloaded is noticed.
const askTimeout = 15 * time.Second

// NewClient returns a client of the agent at a socket path, host:port, or https://host:port.
func NewClient(target string) *Client { return NewClientWith(target, ClientOptions{}) }

// NewClientWith is NewClient with what proves who asks, and who answers.
func NewClientWith(target string, o ClientOptions) *Client {
	c := &Client{target: target, base: "http://" + target, token: o.Token, http: &http.Client{
		Timeout: askTimeout,
		// An agent never redirects; who does is another, and must not be shown the token.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: o.TLS}
	switch {
	case strings.HasPrefix(target, "http://"), strings.HasPrefix(target, "https://"):
		c.base = strings.TrimSuffix(target, "/")
	case IsSocket(target):
		c.base, c.token = "http://agent", ""
		transport.DialContext = func(context.Context, string, string) (net.Conn, error) { return dialSocket(target) }
	}
	c.http.Transport = transport
	return c
}

// dialSocket falls back on the socket that only shows state, for users who may not do more.
func dialSocket(path string) (net.Conn, error) {
	conn, err := listen.DialUnix(path)
	if errors.Is(err, fs.ErrPermission) {
		if shown, roErr := listen.DialUnix(listen.ReadOnlySocket(path)); roErr == nil {
			return shown, nil
		}
	}
	return conn, err
}

// IsSocket reports whether a target is the path of a socket: anything with a slash that is not a URL.
func IsSocket(target string) bool {
	return strings.Contains(target, "/") && !strings.Contains(target, "://")
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
	err := c.get(ctx, topicPath(name), &t)
	return t, err
}

func (c *Client) get(ctx context.Context, path string, out any) error {
	return c.do(ctx, http.MethodGet, path, out)
}

// do is send without a body.
func (c *Client) do(ctx context.Context, method, path string, out any) error {
	return c.send(ctx, method, path, nil, out)
}

// send asks, reads the answer into out, whatever its status code, and turns the code into an error.
func (c *Client) send(ctx context.Context, method, path string, body io.Reader, out any) error {
	resp, err := c.request(ctx, c.http, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.read(resp, path, out)
}

// request asks. The answer's body is the caller's to close.
func (c *Client) request(ctx context.Context, by *http.Client, method, path string,
	body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%w at %q: %w", ErrUnreachable, c.target, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := by.Do(req)
	if err != nil && strings.HasPrefix(c.base, "https://") &&
		strings.Contains(err.Error(), "HTTP response to HTTPS client") {
		return nil, fmt.Errorf("%w at %s: it does not speak TLS, use http://%s", ErrUnreachable, c.target,
			strings.TrimPrefix(c.base, "https://"))
	}
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, c.target, cause(err))
	}
	return resp, nil
}

// maxAnswer bounds an answer, or a line of one, in bytes. The largest is a page of dead letters that ends with one of
// 8 MiB, each byte of which takes six.
const maxAnswer = 96 << 20

// read reads an answer into out, which may be nil where only an error is expected.
func (c *Client) read(resp *http.Response, path string, out any) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err == nil && len(text) > maxAnswer:
		return fmt.Errorf("%w at %s: the answer to %s is larger than %d MiB, which no agent sends", ErrUnreachable, c.target,
			path, maxAnswer>>20)
	case strings.Contains(string(text), "HTTP request to an HTTPS server"): // net/http's own words.
		return fmt.Errorf("%w at %s: it speaks TLS, use https://%s", ErrUnreachable, c.target,
			strings.TrimPrefix(c.base, "http://"))
	case err != nil || !json.Valid(text):
		return fmt.Errorf("%w at %s: what answers there (%s) is not an agent", ErrUnreachable, c.target, resp.Status)
	}
	if resp.StatusCode == http.StatusUnauthorized && c.token != "" {
		return ErrWrongToken
	}
	if err := codeError(resp.StatusCode, text); err != nil {
		_ = json.Unmarshal(text, out) // The reasons of a node that is not ready; anything else stays empty.
		return err
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("read the agent's answer to %s: %w", path, err)
	}
	return nil
}

func codeError(code int, body []byte) error {
	if code == http.StatusOK {
		return nil
	}
	var f reply.Failure
	_ = json.Unmarshal(body, &f) // A body without a text leaves the code to speak.
	if f.Error == "" {
		f.Error = http.StatusText(code)
	}
	switch code {
	case http.StatusTooManyRequests:
		return fmt.Errorf("%w: %s", ErrBusy, f.Error)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: %s", ErrNotAllowed, f.Error)
	case http.StatusBadRequest:
		return fmt.Errorf("%w: %s", ErrBadRequest, f.Error)
	case http.StatusNotFound:
		return fmt.Errorf("%w: %s", ErrNotFound, f.Error)
	case http.StatusConflict:
		return fmt.Errorf("%w: %s", ErrRefused, f.Error)
	case http.StatusServiceUnavailable:
		if f.NoQuorum {
			return Mark(ErrNoQuorum, f.Error)
		}
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
