package disk

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"leasehold/internal/bytesize"
	"leasehold/server/datadir"
)

const mib = uint64(bytesize.MiB)

func TestMinFreeIsAQuarterOfAGigabyteOrATwentiethOfASmallDisk(t *testing.T) {
	for _, c := range []struct {
		set  bytesize.Size
		size uint64
		want uint64
	}{
		{0, 100 << 30, 256 * mib},
		{0, 1000 * mib, 50 * mib},
		{bytesize.GiB, 100 << 30, 1 << 30},
		{bytesize.GiB, 2 << 30, 1 << 30},
	} {
		if got := newWatermarks(Config{MinFree: c.set}, c.size).low; got != c.want {
			t.Errorf("min_free %s on a disk of %d MiB: %d, want %d", c.set, c.size/mib, got, c.want)
		}
	}
}

// Limits of the table: broker wants 25, publishes are refused below 100, taken again from 150 on, ballast 64.
func TestSpaceDecisions(t *testing.T) {
	limits := newWatermarks(Config{MinFree: 100 * bytesize.MiB, Ballast: 64 * bytesize.MiB}, 10<<30)
	for _, c := range []struct {
		name  string
		was   space
		free  uint64 // MiB
		short bool
		step  ballastStep
	}{
		{"plenty", space{ballast: true}, 5000, false, ballastKeep},
		{"at the mark", space{ballast: true}, 100, false, ballastKeep},
		{"below the mark", space{ballast: true}, 99, true, ballastKeep},
		{"a little better is not enough to go back", space{short: true, ballast: true}, 149, true, ballastKeep},
		{"room again", space{short: true, ballast: true}, 150, false, ballastKeep},
		{"really full", space{short: true, ballast: true}, 24, true, ballastDrop},
		{"full in one go", space{ballast: true}, 0, true, ballastDrop},
		{"its own room does not count as room", space{short: true}, 24 + 64, true, ballastKeep},
		{"nor does it let publishers in", space{short: true}, 150 + 63, true, ballastKeep},
		{"room for both", space{short: true}, 150 + 64, false, ballastMake},
		{"without one and empty", space{}, 0, true, ballastKeep},
		{"first start", space{}, 5000, false, ballastMake},
		{"first start with little", space{}, 120, true, ballastKeep},
	} {
		short, step := limits.next(c.was, c.free*mib)
		if short != c.short || step != c.step {
			t.Errorf("%s: short %v, step %v; want %v, %v", c.name, short, step, c.short, c.step)
		}
	}
	none := newWatermarks(Config{MinFree: 100 * bytesize.MiB}, 10<<30)
	if short, step := none.next(space{}, 5000*mib); short || step != ballastKeep {
		t.Errorf("without a ballast in the config: short %v, step %v", short, step)
	}
	if !limits.startable(25*mib) || limits.startable(25*mib-1) {
		t.Error("the broker is to be started with a quarter of min_free, and not with less")
	}
	if limits.exhausted(space{}, 7*mib) || !limits.exhausted(space{}, 6*mib) || limits.exhausted(space{ballast: true}, 0) {
		t.Error("the broker is to be stopped with less than a sixteenth of min_free, once the ballast is gone")
	}
}

// Whatever is free: giving the ballast up or making it leads to no other decision about publishes, and is not undone by
// the next look.
func TestBallastDoesNotMakeSpaceFlutter(t *testing.T) {
	limits := newWatermarks(Config{MinFree: 100 * bytesize.MiB, Ballast: 64 * bytesize.MiB}, 10<<30)
	for free := uint64(0); free < 500; free++ {
		for _, was := range []space{{}, {short: true}, {ballast: true}, {short: true, ballast: true}} {
			short, step := limits.next(was, free*mib)
			after, freed := space{short: short, ballast: was.ballast}, free*mib
			switch step {
			case ballastDrop:
				after.ballast, freed = false, freed+64*mib
			case ballastMake:
				after.ballast, freed = true, freed-64*mib
			}
			again, next := limits.next(after, freed)
			if again != short || next != ballastKeep {
				t.Fatalf("%d MiB free, %+v: short %v and step %v, then %v and %v", free, was, short, step, again, next)
			}
		}
	}
}

func TestBallastIsReallyAllocatedCheckedAndGivenUp(t *testing.T) {
	b := ballast{path: filepath.Join(t.TempDir(), "ballast"), size: 3*mib + 1}
	if b.there() {
		t.Error("there before it was made")
	}
	if err := b.create(); err != nil {
		t.Fatal(err)
	}
	if !b.there() {
		t.Error("not there after it was made")
	}
	if other := (ballast{path: b.path, size: mib}); other.there() || b.there() {
		t.Error("one of another size was left")
	}
	if err := os.WriteFile(b.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(b.path, int64(b.size)); err != nil {
		t.Fatal(err)
	}
	if b.there() {
		t.Error("a file that is one hole passes for a ballast")
	}
	if err := b.create(); err != nil {
		t.Fatal(err)
	}
	if err := b.drop(); err != nil || b.there() {
		t.Errorf("given up: %v", err)
	}
	if err := b.drop(); err != nil {
		t.Errorf("given up twice: %v", err)
	}
}

func TestBallastThatDoesNotFitLeavesNothing(t *testing.T) {
	b := ballast{path: filepath.Join(t.TempDir(), "ballast"), size: 1 << 55}
	if err := b.create(); err == nil {
		t.Error("made a file larger than any disk")
	}
	if _, err := os.Stat(b.path); !os.IsNotExist(err) {
		t.Errorf("something was left: %v", err)
	}
}

func TestDiskIsTooSlowOnlyWhenMoreThanOneLookSaysSo(t *testing.T) {
	times := func(n, slow int) []time.Duration {
		var f fsyncTimes
		for i := range n {
			d := 2 * time.Millisecond
			if i < slow {
				d = time.Second
			}
			f.add(d)
		}
		return f.sorted()
	}
	for _, c := range []struct {
		n, slow int
		want    bool
	}{{0, 0, false}, {20, 0, false}, {20, 1, false}, {20, 2, true}, {380, 1, false}, {380, 2, true}} {
		if got := tooSlow(times(c.n, c.slow)); got != c.want {
			t.Errorf("%d of %d slow: %v", c.slow, c.n, got)
		}
	}
	if got := percentile99(times(100, 1)); got != 2*time.Millisecond {
		t.Errorf("p99 of 100 with one slow: %v", got)
	}
	if got := percentile99(times(99, 1)); got != time.Second {
		t.Errorf("p99 of 99 with one slow: %v", got)
	}
	if got := percentile99(nil); got != 0 {
		t.Errorf("p99 of nothing: %v", got)
	}
	if got := len(times(fsyncKept+100, 0)); got != fsyncKept {
		t.Errorf("%d measurements kept", got)
	}
	if got := tooSlow(times(fsyncKept+100, 100)); got {
		t.Error("measurements older than those kept still count")
	}
}

func TestDiskMeasuresTheFileSystemAndItsSpeed(t *testing.T) {
	path := t.TempDir()
	took, err := timeFsync(filepath.Join(path, datadir.ProbeFile))
	if err != nil || took <= 0 {
		t.Errorf("synced write: %v, %v", took, err)
	}
	d, err := New(path, Config{MinFree: 4 * bytesize.MiB}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	if s := d.State(); s.Size == 0 || s.Free == 0 || s.Free > s.Size || s.MinFree != 4*mib {
		t.Errorf("state %+v", s)
	}
	if _, err := New(filepath.Join(path, "none"), Config{}, hclog.NewNullLogger()); err == nil {
		t.Error("no error for a directory that is not there")
	}
}

// Handlers run as the same user and can make a link in place of a file.
func TestDiskFollowsNoLinks(t *testing.T) {
	for name, touch := range map[string]func(path string) error{
		datadir.BallastFile: func(path string) error { return ballast{path: path, size: 4096}.create() },
		datadir.ProbeFile:   func(path string) error { _, err := timeFsync(path); return err },
	} {
		path, outside := filepath.Join(t.TempDir(), name), filepath.Join(t.TempDir(), "precious")
		if err := os.WriteFile(outside, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, path); err != nil {
			t.Fatal(err)
		}
		if err := touch(path); err == nil || !strings.Contains(err.Error(), name+" is a link") {
			t.Errorf("%s: %v", name, err)
		}
		if text, err := os.ReadFile(outside); err != nil || string(text) != "precious" {
			t.Errorf("%s: wrote through the link: %q, %v", name, text, err)
		}
	}
}
