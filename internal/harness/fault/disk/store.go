package disk

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
)

// FileKind is what a file of a node's data directory is for.
type FileKind string

// The kinds of files whose bytes mean something. The names are those of the
// embedded broker; groups are those of Raft.
const (
	MessageBlock   FileKind = "message block"    // messages of a topic or bucket
	MessageIndex   FileKind = "message index"    // index.db beside them, of a clean stop
	StreamMeta     FileKind = "stream meta"      // its config and the sum of that
	ConsumerState  FileKind = "consumer state"   // o.dat
	ConsumerMeta   FileKind = "consumer meta"    //
	MetaLog        FileKind = "meta log"         // blocks of the group that knows all streams
	MetaSnapshot   FileKind = "meta snapshot"    //
	StreamLog      FileKind = "stream log"       // blocks of the group of one stream or consumer
	StreamSnapshot FileKind = "stream snapshot"  //
	GroupIndex     FileKind = "group index"      // index.db beside the blocks of any group
	GroupMeta      FileKind = "group meta"       //
	GroupVote      FileKind = "group vote"       // tav.idx: term and vote
	GroupPeers     FileKind = "group peers"      // peers.idx
	GroupCommit    FileKind = "group commit"     // commit.idx
	NodeIdentity   FileKind = "node identity"    // who this node is
	NodeBoot       FileKind = "node boot number" //
	NodeFormed     FileKind = "node formed"      // the mark that the cluster was formed once
)

// layout says which file is of which kind; paths are below the data directory.
var layout = []struct {
	kind FileKind
	path *regexp.Regexp
}{
	{MetaLog, regexp.MustCompile(`^jetstream/SYS/_js_/_meta_/msgs/\d+\.blk$`)},
	{MetaSnapshot, regexp.MustCompile(`^jetstream/SYS/_js_/_meta_/snapshots/[^/]+$`)},
	{StreamLog, regexp.MustCompile(`^jetstream/SYS/_js_/[^/]+/msgs/\d+\.blk$`)},
	{StreamSnapshot, regexp.MustCompile(`^jetstream/SYS/_js_/[^/]+/snapshots/[^/]+$`)},
	{GroupIndex, regexp.MustCompile(`^jetstream/SYS/_js_/[^/]+/msgs/index\.db$`)},
	{GroupMeta, regexp.MustCompile(`^jetstream/SYS/_js_/[^/]+/meta\.(inf|sum)$`)},
	{GroupVote, regexp.MustCompile(`^jetstream/SYS/_js_/[^/]+/tav\.idx$`)},
	{GroupPeers, regexp.MustCompile(`^jetstream/SYS/_js_/[^/]+/peers\.idx$`)},
	{GroupCommit, regexp.MustCompile(`^jetstream/SYS/_js_/[^/]+/commit\.idx$`)},
	{MessageBlock, regexp.MustCompile(`^jetstream/[^/]+/streams/[^/]+/msgs/\d+\.blk$`)},
	{MessageIndex, regexp.MustCompile(`^jetstream/[^/]+/streams/[^/]+/msgs/index\.db$`)},
	{StreamMeta, regexp.MustCompile(`^jetstream/[^/]+/streams/[^/]+/meta\.(inf|sum)$`)},
	{ConsumerState, regexp.MustCompile(`^jetstream/[^/]+/streams/[^/]+/obs/[^/]+/o\.dat$`)},
	{ConsumerMeta, regexp.MustCompile(`^jetstream/[^/]+/streams/[^/]+/obs/[^/]+/meta\.(inf|sum)$`)},
	{NodeIdentity, regexp.MustCompile(`^identity\.json$`)},
	{NodeBoot, regexp.MustCompile(`^boot$`)},
	{NodeFormed, regexp.MustCompile(`^formed$`)},
}

// Kinds are all kinds of files, in the order of the constants.
func Kinds() []FileKind {
	return []FileKind{
		MessageBlock, MessageIndex, StreamMeta, ConsumerState, ConsumerMeta, MetaLog, MetaSnapshot, StreamLog,
		StreamSnapshot, GroupIndex, GroupMeta, GroupVote, GroupPeers, GroupCommit, NodeIdentity, NodeBoot, NodeFormed,
	}
}

// Corruptible lists the files of a node's data directory by kind, in the order
// of their names. Files without a byte are left out: there is nothing to
// damage. The node should not run: it would write over the damage.
func Corruptible(dataDir string) (map[FileKind][]string, error) {
	found := make(map[FileKind][]string)
	err := filepath.WalkDir(dataDir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, dataDir+"/")
		if kind := kindOf(name); kind != "" && info.Size() > 0 {
			found[kind] = append(found[kind], path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the files of %s: %w", dataDir, err)
	}
	return found, nil
}

// kindOf is "" for a file that is of no kind.
func kindOf(name string) FileKind {
	for _, l := range layout {
		if l.path.MatchString(name) {
			return l.kind
		}
	}
	return ""
}
