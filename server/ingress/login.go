package ingress

import (
	"encoding/base64"
	"leasehold/server/ingress/wire"

	"github.com/nats-io/nkeys"
)

// login authenticates a client, and adds it to its user's connection to the broker.
func (c *client) login(o wire.ConnectOptions) error {
	if c.user == nil {
		u, err := c.authenticate(o)
		if err != nil {
			return err
		}
		c.user = u
	}
	if !c.in.countIn(c) {
		c.in.refusals.count(c.user.String(), "too_many_connections", "")
		return errMaxClients
	}
	c.opt = o
	up, err := c.in.connect(c)
	if err != nil {
		return err
	}
	c.up = up
	c.idText = append(wire.AppendNumber(nil, c.id), '.')
	c.inbox = append(c.inbox, up.inbox...)
	c.loggedIn.Store(true)
	c.in.pending.left(c)
	if c.link.hasEnded() { // end did not know of up yet
		up.remove(c)
		return errEnded
	}
	return nil
}

// authenticate returns the user that a client's credentials prove. All failures look the same to the client.
func (c *client) authenticate(o wire.ConnectOptions) (*user, error) {
	var u *user
	reason := "wrong_credentials"
	switch {
	case o.NKey != "":
		u = c.in.keys[o.NKey]
		if u != nil && !signed(o, c.nonce) {
			u = nil
		}
	case o.User != "" || o.Pass != "":
		c.pulse.waiting.Store(true)
		u, reason = c.in.passwords.login(c.in.users[o.User], o.Pass, address(c.link.raw))
		c.pulse.waiting.Store(false)
	case o.Token != "" || o.JWT != "":
	default:
		u = c.in.users[Anonymous]
	}
	if u == nil {
		c.in.refusals.countAddress(address(c.link.raw), reason, "")
		return nil, errAuth
	}
	return u, nil
}

// signed reports whether a client has signed the nonce with its key, in any of the encodings that clients use.
func signed(o wire.ConnectOptions, nonce string) bool {
	signature, err := base64.RawURLEncoding.DecodeString(o.Signature)
	if err != nil {
		if signature, err = base64.StdEncoding.DecodeString(o.Signature); err != nil {
			return false
		}
	}
	key, err := nkeys.FromPublicKey(o.NKey)
	return err == nil && key.Verify([]byte(nonce), signature) == nil
}
