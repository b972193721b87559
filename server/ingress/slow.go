package ingress

// tooMuchOut is how many bytes may wait for a publisher at all. Answers count before they come (see roomyLocked), for one
// subscription each; a client whose subscriptions multiply them, and that does not read them, loses its connection.
const tooMuchOut = 4 * maxOut

// waitSent waits until less waits for the client: it may ask for no more than it reads.
func (c *client) waitSent() error {
	if err := c.pass(); err != nil {
		return err
	}
	c.waiting.Store(true)
	defer c.waiting.Store(false)
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > maxOut && !c.ended {
		c.room.Wait()
	}
	if c.full.Store(false); c.ended {
		return errEnded
	}
	return nil
}

// endSlow ends a connection that does not read what is sent to it.
func (c *client) endSlow() {
	c.in.refusals.count(c.user.String(), "slow_consumer", "")
	c.end(errSlow)
}
