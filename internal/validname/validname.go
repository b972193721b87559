// Package validname is the rule for the names of nodes, clusters, topics, groups and users.
//
// They become parts of subjects, file names, certificates and command lines, so they hold nothing that means something
// there.
package validname

import "regexp"

// Rule says in a message what OK wants, after the name or the key of it.
const Rule = "must be 1 to 64 letters, digits, '-' or '_', and begin with a letter or digit"

var pattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// OK reports whether the name follows the rule.
func OK(name string) bool { return pattern.MatchString(name) }
