package cli

import (
	"leasehold/internal/api"
	"leasehold/partitioner"
)

// keyForms says how keys are named, in the help of every --key. The node reads them (partitioner.KeysNamed), so that a
// name means the same to every command.
const keyForms = "as it was published or as lists show it; %=TOKEN names it exactly as it stands in the subject"

// notPublished refuses the exact name of a key where a key is taken literally: it would become another one.
func notPublished(name string) error {
	return usage("--key %s: %%= names a key that exists; a new message's key is given literally and encoded for the "+
		"subject, so leave %%= out", name)
}

// letterKeyNames are the names of the keys of letters that are listed together.
func letterKeyNames(letters []api.Letter) map[string]string {
	keys := make([]string, len(letters))
	for i, l := range letters {
		keys[i] = l.Key
	}
	return partitioner.KeyNames(keys)
}

// exactName is a name that means a listed key and no other. A hash is one already.
func exactName(listed string) string {
	if partitioner.LetterKey(listed).Hashed() {
		return listed
	}
	return partitioner.ExactKeyName(listed)
}
