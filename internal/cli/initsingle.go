package cli

import (
	"cmp"
	"fmt"
	"path/filepath"

	"leasehold/internal/config"
)

// singleName is the name of a node on its own if nobody gives another.
const singleName = "n1"

// initSingle makes the site of one node in single mode, with its data beside its config.
func (a *App) initSingle(cluster, nodes, out string, s site) error {
	if nodes != "" {
		return usage("--single and --nodes: use only one; --single is a single node")
	}
	s.cluster = cmp.Or(cluster, singleName)
	s.nodes = []siteNode{{name: singleName, dataDir: "data"}}
	return a.runInit(s, cmp.Or(out, "."))
}

// requireCluster asks for the flags that a cluster cannot do without.
func requireCluster(cluster, nodes, out string) error {
	for _, f := range []struct{ name, value string }{{"--cluster-name", cluster}, {"--nodes", nodes}, {"--out", out}} {
		if f.value == "" {
			return failure(exitUsage, "give all of --cluster-name, --nodes and --out, or --single for a single node",
				"%s is missing", f.name)
		}
	}
	return nil
}

// printSingle says what to type next.
func (a *App) printSingle(s site, out string) {
	path := filepath.Join(out, config.FileName)
	fmt.Fprintf(a.Out, "%s\tone node; its data will be in %s\n", path, filepath.Join(out, s.nodes[0].dataDir))
	fmt.Fprintf(a.Out, "Next: %s agent --config %s\n", a.program(), shellWord(path))
}
