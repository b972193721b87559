package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"leasehold/internal/api"
)

func TestTopicsAreReleasedOnlyWhenEveryLiveNodeSaysThatItHasRoom(t *testing.T) {
	live := []string{"n1", "n2"}
	roomy, short := report{}, report{Disk: diskReport{Short: true}}
	for _, c := range []struct {
		name string
		said map[string]report
		want bool
	}{
		{"all have room", map[string]report{"n1": roomy, "n2": roomy}, true},
		{"one is short", map[string]report{"n1": roomy, "n2": short}, false},
		{"one says nothing", map[string]report{"n1": roomy}, false},
		{"one that is not live any more was short", map[string]report{"n1": roomy, "n2": roomy, "n3": short}, true},
	} {
		if got := mayRelease(live, c.said); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestDiskWarningsNameTheNodeAndTheCure(t *testing.T) {
	short := map[string]report{"n2": {Disk: diskReport{Short: true, Free: 100 << 20, MinFree: 256 << 20}}}
	slow := map[string]report{"n3": {Disk: diskReport{SlowFsync: true}}}
	held := []api.Topic{{Name: "orders", Held: true}, {Name: "other"}}
	for _, c := range []struct {
		name   string
		timing string
		said   map[string]report
		topics []api.Topic
		want   string // All of the only warning's words that matter, "" for none.
	}{
		{"fine", "lan", map[string]report{"n1": {}}, nil, ""},
		{"short", "lan", short, held, "node n2 100 MiB 256 MiB"},
		{"slow", "lan", slow, nil, "node n3 wan"},
		{"slow where it does not matter", "wan", slow, nil, ""},
		{"on its own", "", slow, nil, ""},
		{"held by nobody known", "lan", map[string]report{"n1": {}}, held, "orders refused"},
	} {
		got := diskWarnings(c.timing, c.said, c.topics)
		if c.want == "" && len(got) > 0 || c.want != "" && len(got) != 1 {
			t.Errorf("%s: %q", c.name, got)
			continue
		}
		for _, word := range strings.Fields(c.want) {
			if !strings.Contains(got[0], word) {
				t.Errorf("%s: %q does not say %q", c.name, got[0], word)
			}
		}
	}
}

func TestPausesGrowUntilALifeLasts(t *testing.T) {
	var pause time.Duration
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		if pause = nextPause(pause, time.Second); pause != want*time.Second {
			t.Errorf("pause %v, want %vs", pause, int(want))
		}
	}
	if pause = nextPause(pause, time.Hour); pause != firstPause {
		t.Errorf("after a long life: %v", pause)
	}
}

func TestOnlyAnOrderlyEndOfALifeIsFollowedByAnother(t *testing.T) {
	again := &againError{reason: "full"}
	if startsAgain(fmt.Errorf("stop: %w", again)) != again {
		t.Error("the reason to start again is not found")
	}
	stuck, other := errors.New("still not stopped"), errors.New("something else")
	for _, c := range []struct {
		name               string
		cause, came, stuck error
		again              bool
		want               error // In the chain; nil: no error.
	}{
		{"told to stop", context.Canceled, nil, nil, false, nil},
		{"told to stop, badly", context.Canceled, other, nil, false, other},
		{"full", again, other, nil, true, again},
		{"full, and the broker does not stop", again, nil, stuck, false, stuck},
		{"full, and a part does not end", again, fmt.Errorf("disk: %w", errStuck), nil, false, errStuck},
		{"failed", other, nil, stuck, false, other},
	} {
		got := ending(c.cause, c.came, c.stuck)
		if !errors.Is(got, c.want) || (startsAgain(got) != nil) != c.again {
			t.Errorf("%s: ends with %v", c.name, got)
		}
	}
}
