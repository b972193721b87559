package tutorial

import "testing"

// TestANodeMovesToAnotherAddress does what docs/operations.md says: first the node's own config, then the others'.
func TestANodeMovesToAnotherAddress(t *testing.T) {
	r := newReader(t)
	move := func(node string) step {
		return step{command: "sed -i 's/127.0.0.1:6224/127.0.0.1:7224/' leasehold-dev/" + node + "/config.toml"}
	}
	settled := step{command: "leasehold status --until-idle", output: []string{"…", "OK: …", "…", "n3 …127.0.0.1:7224",
		"…"}}
	r.follow("start", []step{
		{command: "leasehold dev --detach", output: []string{"…", "All ready…", "…"}},
		{command: "leasehold pub events --key a x", output: []string{"stored 1, …"}},
		{command: "leasehold dev down", output: []string{"stopped n1, n2, n3"}},
		move("n3"),
		{command: "leasehold dev --detach", output: []string{"kept leasehold-dev/n3/config.toml…", "…", "All ready…", "…"}},
		settled,
		move("n1"), {command: "leasehold dev kill n1", output: []string{"killed n1…"}},
		{command: "leasehold dev start n1", output: []string{"…", "n1 is ready"}},
		settled,
		{command: "leasehold tap events -o table", output: []string{"13:41:09.104  events/…/1  a  x"}},
	})
}
