package devcheck

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// demo is a cluster's input and outputs, as lines that a test can spoil. One file a partition and node.
type demo struct {
	input []string
	file  map[string][]string // NODE/FILE → lines.
	chain map[string][]string // FILE → lines.
}

// twoOwners makes 12 rows of 3 keys in one partition, the first half handled by n1, the other by n2.
func twoOwners() *demo {
	d := &demo{file: map[string][]string{}, chain: map[string][]string{}}
	states := map[string]chainLine{}
	for i := range 12 {
		key, epoch, node := string(rune('a'+i%3)), 1+i/6, fmt.Sprintf("n%d", 1+i/6)
		data := fmt.Sprintf(`{"id":"r%02d","origin":%q,"delay":%d}`, i, key, i)
		d.input = append(d.input, data)
		name := node + "/flights.audit.00003.ndjson"
		d.file[name] = append(d.file[name], line(map[string]any{"node": node, "group": "audit", "partition": 3, "seq": i + 1, "epoch": epoch, "attempt": 1, "key": key, "data": data}))
		s := states[key]
		sum := sha256.Sum256([]byte(s.Chain + data))
		s = chainLine{Key: key, Seq: uint64(i + 1), Epoch: uint64(epoch), Partition: 3, Node: node, Count: s.Count + 1, TotalDelay: s.TotalDelay + float64(i), Chain: hex.EncodeToString(sum[:])}
		states[key] = s
		d.chain["flights.delays.00003.ndjson"] = append(d.chain["flights.delays.00003.ndjson"], line(s))
	}
	return d
}

func line(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// check writes the demo to a directory and judges it.
func (d *demo) check(t *testing.T, allow bool) *Report {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "in"), d.input)
	for name, lines := range d.file {
		write(t, filepath.Join(dir, "file", name), lines)
	}
	for name, lines := range d.chain {
		write(t, filepath.Join(dir, "chain", name), lines)
	}
	r, err := Check(Options{Input: filepath.Join(dir, "in"), KeyField: "origin", IDField: "id", AllowRepeats: allow,
		FileDir: filepath.Join(dir, "file"), FileGroup: "audit", ChainDir: filepath.Join(dir, "chain"), ChainGroup: "delays"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func write(t *testing.T, path string, lines []string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Names in twoOwners.
const (
	first  = "n1/flights.audit.00003.ndjson"
	second = "n2/flights.audit.00003.ndjson"
	chain  = "flights.delays.00003.ndjson"
)

func TestACleanRunHasNoDifferences(t *testing.T) {
	r := twoOwners().check(t, false)
	if !r.OK() || r.Rows != 12 || r.Keys != 3 || len(r.Claims) != 8 {
		t.Errorf("got %+v", r)
	}
}

func TestPlantedErrorsAreFound(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(d *demo)
		claim string
	}{
		"dropped line":           {func(d *demo) { d.file[first] = slices.Delete(d.file[first], 2, 3) }, "audit: every row was handled"},
		"dropped last line":      {func(d *demo) { d.file[second] = d.file[second][:5] }, "audit: every row was handled"},
		"dropped file":           {func(d *demo) { delete(d.file, second) }, "audit: every row was handled"},
		"swapped lines":          {func(d *demo) { swap(d.file[first], 1, 2) }, "audit: one owner an epoch, sequences grow"},
		"swapped lines of a key": {func(d *demo) { swap(d.file[first], 0, 3) }, "audit: each key in the order of the input"},
		"doubled line":           {func(d *demo) { d.file[first] = append(d.file[first], d.file[first][5]) }, "audit: no row was handled twice"},
		"doubled at another owner": {func(d *demo) {
			d.file[second] = append([]string{strings.Replace(d.file[first][5], `"epoch":1`, `"epoch":2`, 1)}, d.file[second]...)
		}, "audit: no row was handled twice"},
		"same epoch at two owners": {func(d *demo) { all(d.file[second], `"epoch":2`, `"epoch":1`) }, "audit: one owner an epoch, sequences grow"},
		"order by sequence only":   {func(d *demo) { all(d.file[second], `"epoch":2`, `"epoch":0`) }, "audit: each key in the order of the input"},
		"changed payload":          {func(d *demo) { all(d.file[first][:1], `delay\":0`, `delay\":9`) }, "audit: no line is foreign or changed"},
		"wrong key":                {func(d *demo) { all(d.file[first][:1], `"key":"a"`, `"key":"b"`) }, "audit: no line is foreign or changed"},
		"chain: dropped line":      {func(d *demo) { d.chain[chain] = slices.Delete(d.chain[chain], 4, 5) }, "delays: chain, count and total follow from the input"},
		"chain: dropped last line": {func(d *demo) { d.chain[chain] = d.chain[chain][:11] }, "delays: every row was handled"},
		"chain: swapped lines":     {func(d *demo) { swap(d.chain[chain], 4, 5) }, "delays: one row after the other, none twice"},
		"chain: doubled line":      {func(d *demo) { d.chain[chain] = append(d.chain[chain], d.chain[chain][11]) }, "delays: one row after the other, none twice"},
		"chain: lowered epoch": {func(d *demo) {
			all(d.chain[chain][11:], `"epoch":2`, `"epoch":1`)
			all(d.chain[chain][6:7], `"epoch":2`, `"epoch":3`)
		}, "delays: one row after the other, none twice"},
		"chain: wrong total":          {func(d *demo) { all(d.chain[chain][11:], `"total_delay":`, `"total_delay":1`) }, "delays: chain, count and total follow from the input"},
		"chain: row of another order": {func(d *demo) { swap(d.input, 0, 3) }, "delays: chain, count and total follow from the input"},
	} {
		t.Run(name, func(t *testing.T) {
			d := twoOwners()
			c.spoil(d)
			r := d.check(t, false)
			if r.OK() || !strings.Contains(strings.Join(r.Differences, "\n"), c.claim+": ") {
				t.Errorf("want %q in %q", c.claim, r.Differences)
			}
		})
	}
}

func swap(lines []string, i, j int) { lines[i], lines[j] = lines[j], lines[i] }

func all(lines []string, from, to string) {
	for i, l := range lines {
		lines[i] = strings.Replace(l, from, to, 1)
	}
}

func TestRepeatsUnderANewerEpochAreAllowedOnlyWhenAskedFor(t *testing.T) {
	repeated := func() *demo {
		d := twoOwners()
		again := strings.ReplaceAll(strings.Replace(d.file[first][5], `"epoch":1`, `"epoch":2`, 1), `"n1"`, `"n2"`)
		d.file[second] = append([]string{again}, d.file[second]...)
		return d
	}
	if r := repeated().check(t, true); !r.OK() {
		t.Errorf("repeat after a takeover: %q", r.Differences)
	}
	if r := repeated().check(t, false); r.OK() {
		t.Error("repeat after a takeover was accepted unasked")
	}
	d := repeated()
	d.file[second] = append(d.file[second], d.file[second][6])
	if r := d.check(t, true); r.OK() {
		t.Error("a repeat within an epoch was accepted")
	}
}

func TestInputThatCannotBeJudgedIsRefused(t *testing.T) {
	for name, lines := range map[string][]string{
		"same id twice": {`{"id":1,"origin":"a"}`, `{"id":1,"origin":"a"}`}, "no key": {`{"id":1}`}, "no JSON": {`x`}, "empty": {},
		"two rows in a line": {`{"id":1,"origin":"a"}{"id":2,"origin":"a"}`}, "Latin-1": {"{\"id\":\"\xfc\",\"origin\":\"a\"}"},
	} {
		path := filepath.Join(t.TempDir(), "in")
		write(t, path, lines)
		if _, err := Check(Options{Input: path, KeyField: "origin", IDField: "id", FileGroup: "audit", FileDir: t.TempDir()}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// TestInputIsReadAsItWasPublished: a mark in front is no part of the first row.
func TestInputIsReadAsItWasPublished(t *testing.T) {
	d := twoOwners()
	d.input[0] = "\ufeff" + d.input[0]
	if r := d.check(t, false); !r.OK() {
		t.Errorf("%+v", r)
	}
}
