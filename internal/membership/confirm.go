package membership

import (
	"context"
	"fmt"
	"time"

	"leasehold/cluster/lease"
	"leasehold/internal/registry"
	"leasehold/internal/supervise"
)

// Confirmation makes sure, once the session is live, that no group and no topic of this node was removed while it was
// starting.
type Confirmation struct {
	Groups, Topics []string
	Registry       *registry.Registry
	Driver         interface {
		Snapshot(ctx context.Context) (lease.View, error)
	}
}

// definition is one that this node needs, and what it stops with if that was removed.
type definition struct {
	confirm func(ctx context.Context, name string) (removed bool, err error)
	name    string
	refusal error
}

// Run returns the refusal of what was removed. Otherwise it runs until ctx ends.
func (c Confirmation) Run(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	left := c.definitions()
	for len(left) > 0 {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if view, err := c.Driver.Snapshot(ctx); err != nil || !view.Live {
			continue
		}
		try, cancel := context.WithTimeout(ctx, supervise.SetupLimit)
		removed, err := left[0].confirm(try, left[0].name)
		cancel()
		switch {
		case removed:
			return left[0].refusal
		case err == nil:
			left = left[1:]
		}
	}
	<-ctx.Done()
	return nil
}

func (c Confirmation) definitions() (all []definition) {
	for _, name := range c.Groups {
		all = append(all, definition{c.Registry.ConfirmGroup, name, GroupRemoved(name)})
	}
	for _, name := range c.Topics {
		all = append(all, definition{c.Registry.ConfirmTopic, name, TopicRemoved(name)})
	}
	return all
}

// GroupRemoved is the refusal of a group whose name is used up.
func GroupRemoved(group string) error {
	return fmt.Errorf("%w: group %q was removed from the cluster, and messages that it had not finished may be gone: "+
		"take it out of the config, or give it a new name", supervise.ErrConfig, group)
}

// TopicRemoved is the refusal of a topic whose name is used up.
func TopicRemoved(topic string) error {
	return fmt.Errorf("%w: topic %q was removed from the cluster with its messages: take it out of the config, or give "+
		"it a new name",
		supervise.ErrConfig, topic)
}
