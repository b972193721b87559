//go:build !failpoints

// Package failpoint lets tests end a node at the worst moments: a binary built with the tag "failpoints" kills itself,
// without any clean-up, when it comes by the place that the environment names. In any other build there is nothing of
// it.
package failpoint

// Hit does nothing in this build.
func Hit(Place) {}
