package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"leasehold/internal/config"
	"leasehold/internal/devcluster"
	"leasehold/internal/jsondata"
	"leasehold/internal/smallfile"
)

// devRecord is what `dev` remembers of a directory: what it was asked for last, so that a later start needs no flags,
// and what it wrote, so that it can tell a file that was edited since.
type devRecord struct {
	Nodes       int               `json:"nodes"`
	NATSPort    int               `json:"nats_port"`
	ClusterPort int               `json:"cluster_port"`
	HTTPPort    int               `json:"http_port"`
	Topics      string            `json:"topics"`  // Text of --topics, or the sample.
	Written     map[string]string `json:"written"` // SHA-256 of each config, by its node.
}

// Names in the directory of a dev cluster, beside those of its nodes.
const (
	recordFile = "dev.json"
	outName    = "out" // What handlers write, by convention.
)

// sampleTopic is what a dev cluster runs if it is given nothing: enough to publish to and to see something happen.
const sampleTopic = `
[[topic]]
name = "events"
partitions = 16
`

const (
	devTopics = sampleTopic + `
[[group]]
name = "file"
topic = "events"
handler = { kind = "file", path = "{{dir}}/out/file/{{node}}" }
`
	// aloneTopics are for a node whose log is in front of the user.
	aloneTopics = sampleTopic + `
[[group]]
name = "log"
topic = "events"
handler = { kind = "log", payload = true }
`
)

func readDevRecord(dir string) (devRecord, error) {
	var r devRecord
	path := filepath.Join(dir, recordFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return r, failure(exitFailed, "remove it; every config in "+shellWord(dir)+" then counts as edited",
			"read what dev wrote last: %s: %w", path, err)
	}
	return r, nil
}

func (r devRecord) save(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, recordFile), append(text, '\n'))
}

// devWish is a record with what the flags of this start change in it.
func devWish(cmd *cobra.Command, f devFlags, last devRecord) (devRecord, error) {
	wish := last
	for flag, v := range map[string]struct{ given, to *int }{
		"nodes": {&f.nodes, &wish.Nodes}, "nats-port": {&f.natsPort, &wish.NATSPort},
		"cluster-port": {&f.clusterPort, &wish.ClusterPort}, "http-port": {&f.httpPort, &wish.HTTPPort},
	} {
		if last.Nodes == 0 || changed(cmd, flag) {
			*v.to = *v.given
		}
	}
	if f.topics != "" {
		text, err := smallfile.Read(f.topics, smallfile.Most)
		if err != nil {
			return wish, &Error{Code: exitUsage, Err: fmt.Errorf("read --topics: %w", err)}
		}
		wish.Topics = string(jsondata.TrimBOM(text))
	} else if last.Nodes == 0 {
		wish.Topics = f.sample
	}
	return wish, nil
}

// check refuses what no directory can become, or this one not with the data that it holds.
func (r devRecord) check(dir string) error {
	if r.Nodes != 1 && r.Nodes < 3 {
		return usage("--nodes %d: a cluster has at least 3 nodes (with two, the loss of either stops both); 1 is a single "+
			"node", r.Nodes)
	}
	holds := 0
	nodes, _ := devcluster.Nodes(dir) // It cannot fail: dir is quoted.
	for _, n := range nodes {
		if _, err := os.Stat(filepath.Dir(n.Socket())); err == nil {
			holds++
		}
	}
	if holds > r.Nodes || holds == 1 && r.Nodes > 1 {
		return failure(exitUsage,
			"start it without --nodes, remove it with `leasehold dev down --purge`, or use another --dir",
			"--nodes %d: %s holds data of %s, which cannot become %s", r.Nodes, shortPath(dir), count(holds, "node"),
			count(r.Nodes, "node"))
	}
	return nil
}

// site is the cluster that a record describes.
func (r devRecord) site(dir string) site {
	s := site{cluster: "dev", secret: config.NewSecret(), extra: strings.ReplaceAll(r.Topics, "{{dir}}", dir)}
	for i := range r.Nodes {
		s.nodes = append(s.nodes, siteNode{
			name: "n" + strconv.Itoa(i+1), subdir: "n" + strconv.Itoa(i+1), address: loopback(r.ClusterPort + i),
			dataDir: "data",
			listen:  loopback(r.NATSPort + i), httpListen: loopback(r.HTTPPort + i),
		})
	}
	return s
}

// writeDevSite makes the nodes' directories what the flags ask for. Data and secrets of an earlier start stay, and so
// does a config that was edited.
func (a *App) writeDevSite(cmd *cobra.Command, dir string, f devFlags) ([]devcluster.Node, error) {
	last, err := readDevRecord(dir)
	if err != nil {
		return nil, err
	}
	wish, err := devWish(cmd, f, last)
	if err != nil {
		return nil, err
	}
	if err := wish.check(dir); err != nil {
		return nil, err
	}
	s := wish.site(dir)
	if err := s.check(dir); err != nil {
		return nil, topicsError(err, f.topics, s)
	}
	edited, err := editedConfigs(dir, s, last.Written)
	if err != nil {
		return nil, err
	}
	return s.devNodes(dir), a.writeDevFiles(dir, s, wish, edited)
}

// writeDevFiles writes all but the edited configs, and then what was written.
func (a *App) writeDevFiles(dir string, s site, wish devRecord, edited map[string]bool) error {
	if err := s.writeMissingSecrets(dir); err != nil {
		return err
	}
	wish.Written = map[string]string{}
	for _, n := range s.nodes {
		wish.Written[n.name] = digest(s.text(n))
		if edited[n.name] {
			fmt.Fprintf(a.Err, "kept %s as it was edited\n", shortPath(filepath.Join(s.dir(dir, n), config.FileName)))
		} else if err := s.writeConfig(dir, n); err != nil {
			return err
		}
	}
	return wish.save(dir)
}

// devNodes are the nodes of a site as `dev` runs them.
func (s site) devNodes(dir string) (nodes []devcluster.Node) {
	for _, n := range s.nodes {
		nodes = append(nodes, devcluster.Node{Name: n.name, Dir: s.dir(dir, n)})
	}
	return nodes
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// editedConfigs lists the nodes whose config was edited since `dev` wrote it. If what is wanted has changed, too, one
// of the two would be lost, so that is refused before anything is written.
func editedConfigs(dir string, s site, written map[string]string) (map[string]bool, error) {
	edited := map[string]bool{}
	for _, n := range s.nodes {
		path := filepath.Join(dir, n.name, config.FileName)
		have, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		switch want := s.text(n); {
		case string(have) == want, digest(string(have)) == written[n.name]:
		case digest(want) == written[n.name]:
			edited[n.name] = true
		default:
			return nil, failure(exitFailed,
				"make the change in that file yourself and start without flags, or remove it to have it written again",
				"%s was edited, and --topics, --nodes or a port now ask for another one", shortPath(path))
		}
	}
	return edited, nil
}

// topicsError says a fault of the topics where the user wrote them: the config that they would go into is not there
// yet.
func topicsError(err error, file string, s site) error {
	var faults *config.Error
	if !errors.As(err, &faults) {
		return err
	}
	if file == "" {
		return &Error{Code: exitUsage, Err: err, Hint: "fix --nodes or the ports"}
	}
	before, blank := s.linesBefore()
	for i, f := range faults.Faults {
		if f.Line <= before {
			return &Error{Code: exitUsage, Err: err, Hint: "fix --nodes or the ports"}
		}
		faults.Faults[i].Line = f.Line - before + blank
	}
	faults.File = file
	return &Error{Code: exitUsage, Err: err, Hint: "fix the file"}
}

// lockDev locks a cluster's directory against other commands that start nodes in it.
func lockDev(dir string) (unlock func(), err error) {
	unlock, err = devcluster.Lock(dir)
	switch {
	case errors.Is(err, devcluster.ErrLocked):
		return nil, failure(exitFailed, "wait until it is done, or end it", "another command is starting nodes in %s",
			shortPath(dir))
	case err != nil:
		return nil, writeError("--dir", err)
	}
	return unlock, nil
}
