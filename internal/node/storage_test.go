package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"leasehold/cluster/lease"
	"leasehold/internal/api"
	"leasehold/internal/bytesize"
	"leasehold/internal/config"
	"leasehold/internal/registry"
	"leasehold/partitioner"
	"leasehold/partitioner/stream"
	"leasehold/server/servertest"
)

// site is one data directory and the configs that its node runs with, one after the other.
type site struct {
	t   *testing.T
	dir string
	oneRun
}

func newSite(t *testing.T) *site {
	s := &site{t: t, dir: t.TempDir()}
	t.Cleanup(s.end)
	return s
}

// topicTable is a [[topic]] with some more lines.
func topicTable(name string, lines ...string) string {
	return fmt.Sprintf("[[topic]]\nname = %q\npartitions = 2\n%s\n", name, strings.Join(lines, "\n"))
}

// groupTable is a [[group]] of a topic with some more lines.
func groupTable(name, topic string, lines ...string) string {
	return fmt.Sprintf("[[group]]\nname = %q\ntopic = %q\nhandler = { kind = \"discard\" }\n%s\n", name, topic,
		strings.Join(lines, "\n"))
}

// load reads a config with these tables; maxStore "" is the default.
func (s *site) load(maxStore string, tables ...string) *config.Config {
	s.t.Helper()
	text := fmt.Sprintf("[node]\nname = \"n1\"\ndata_dir = \"data\"\n[server]\nlisten = %q\ndurability = "+
		"\"process-safe\"\nballast = \"0B\"\n%s\n[http]\nlisten = %q\n%s",
		servertest.FreeAddress(s.t), maxStore, servertest.FreeAddress(s.t), strings.Join(tables, ""))
	file := filepath.Join(s.dir, "node.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	c, err := config.Load(file)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// run ends the node, starts it with another config and waits until it is ready.
func (s *site) run(maxStore string, tables ...string) {
	s.t.Helper()
	s.end()
	s.oneRun = startRun(s.t, s.load(maxStore, tables...))
	s.waitReady(s.t)
}

func (s *site) end() {
	s.t.Helper()
	if s.Node == nil {
		return
	}
	s.quit()
	if err := s.waitEnd(s.t); err != nil {
		s.t.Fatal(err)
	}
	s.oneRun = oneRun{}
}

// size is the size of a stream, 0 if it is not there.
func (s *site) size(stream string) bytesize.Size {
	s.t.Helper()
	str, err := s.conns.operator.Stream(s.t.Context(), stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return bytesize.Size(str.CachedInfo().Config.MaxBytes)
}

func (s *site) wantSize(stream string, want bytesize.Size) {
	s.t.Helper()
	if got := s.size(stream); got != want {
		s.t.Errorf("stream %s may hold %s, want %s", stream, got, want)
	}
}

func (s *site) warnings() string {
	s.t.Helper()
	st, err := s.reader().Status(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Join(st.Warnings, "\n")
}

func (s *site) wantWarning(parts ...string) {
	s.t.Helper()
	for line := range strings.SplitSeq(s.warnings(), "\n") {
		if containsEach(line, parts...) {
			return
		}
	}
	s.t.Errorf("no warning with %q in:\n%s", parts, s.warnings())
}

func (s *site) wantNoWarning(part string) {
	s.t.Helper()
	if all := s.warnings(); strings.Contains(all, part) {
		s.t.Errorf("a warning has %q:\n%s", part, all)
	}
}

func (s *site) publish(subject string, size int) {
	s.t.Helper()
	if _, err := s.conns.publish.Publish(s.t.Context(), subject, make([]byte, size)); err != nil {
		s.t.Fatal(err)
	}
}

func wantRefused(t *testing.T, err error, parts ...string) {
	t.Helper()
	if !errors.Is(err, api.ErrRefused) || !containsEach(err.Error(), parts...) {
		t.Errorf("refused with %v, want %q", err, parts)
	}
}

const store2GiB = `max_store = "2GiB"`

// Each row is what one does to a config, sizes left to their defaults: the node must come up with each, one after the
// other, and with the first one again.
func TestANodeIsReadyWhateverItsConfigSaysOfSizes(t *testing.T) {
	t.Parallel()
	orders, events := topicTable("orders"), topicTable("events")
	judge, second := groupTable("judge", "orders"), groupTable("second", "orders")
	var many []string
	for i := range 12 {
		many = append(many, topicTable(fmt.Sprintf("t%d", i)), groupTable(fmt.Sprintf("g%d", i), fmt.Sprintf("t%d", i)))
	}
	type config struct {
		store  string
		tables []string
	}
	for what, configs := range map[string][]config{
		"a group less":    {{"", []string{orders, judge, second}}, {"", []string{orders, judge}}},
		"a group more":    {{"", []string{orders, judge}}, {"", []string{orders, judge, second}}},
		"a group renamed": {{"", []string{orders, judge}}, {"", []string{orders, second}}},
		"two groups less": {{"", []string{orders, judge, second, groupTable("third", "orders")}},
			{"", []string{orders, second}}},
		"a topic renamed":   {{"", []string{events, groupTable("log", "events")}}, {"", []string{orders, judge}}},
		"a topic less":      {{"", []string{orders, events}}, {"", []string{events}}},
		"no topic any more": {{"", []string{orders, judge}}, {"", nil}},
		"max_store raised":  {{store2GiB, []string{orders, judge}}, {`max_store = "3GiB"`, []string{orders, judge}}},
		"max_store lowered": {{store2GiB, []string{orders, judge}}, {`max_store = "1GiB"`, []string{orders, judge}}},
		"max_store below all": {{"", []string{orders, events, judge}},
			{`max_store = "64MiB"`, []string{orders, events, judge}}},
		"twelve topics":    {{`max_store = "256MiB"`, []string{orders, judge}}, {`max_store = "256MiB"`, many}},
		"a size that fits": {{"", []string{orders}}, {"", []string{topicTable("orders", `max_bytes = "4GiB"`)}}},
		"sizes of what is there": {{"", []string{topicTable("orders", `max_bytes = "7GiB"`)}},
			{"", []string{topicTable("events", `max_bytes = "7GiB"`)}}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			for _, c := range append(configs, configs[0]) {
				s.run(c.store, c.tables...)
			}
		})
	}
}

func TestSizesThatExistStayUntilAnotherIsStated(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.run(store2GiB, topicTable("orders"), groupTable("judge", "orders"))
	s.wantSize("orders", 256*bytesize.MiB)
	s.wantSize("dlq_judge", 64*bytesize.MiB)
	s.run("", topicTable("orders"), groupTable("judge", "orders"), topicTable("events"))
	s.wantSize("orders", 256*bytesize.MiB)
	s.wantSize("dlq_judge", 64*bytesize.MiB)
	s.wantSize("events", bytesize.GiB)
	s.run("", topicTable("orders", `max_bytes = "2GiB"`), groupTable("judge", "orders", `dlq_max_bytes = "1GiB"`))
	s.wantSize("orders", 2*bytesize.GiB)
	s.wantSize("dlq_judge", bytesize.GiB)
	s.run("", topicTable("orders", `max_bytes = "100MiB"`), groupTable("judge", "orders", `dlq_max_bytes = "8MiB"`))
	s.wantSize("orders", 100*bytesize.MiB)
	s.wantSize("dlq_judge", 8*bytesize.MiB)
}

// The sample topic was given all of the store; another one that wants as much gets what is left, and the rest once
// there is room.
func TestWhatDoesNotFitIsAWarningUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.run("", topicTable("events", `max_bytes = "6GiB"`), groupTable("log", "events", `dlq_max_bytes = "100MiB"`))
	s.publish("events.a", 100)
	s.run("", topicTable("orders", `max_bytes = "6GiB"`), groupTable("judge", "orders"))
	if got := s.size("orders"); got <= bytesize.GiB || got > 2*bytesize.GiB {
		t.Errorf("the new topic may hold %s", got)
	}
	s.wantWarning("topic orders wants 6.0 GiB and has 1.1 GiB", "0 B of max_store 8.0 GiB is free",
		"events 6.0 GiB, in no live node's config")
	s.wantWarning("topic events is in no live node's config and reserves 6.0 GiB", "`leasehold topic remove events`")
	s.wantWarning("group log is in no live node's config", "`leasehold group remove log`")

	ctx := t.Context()
	_, err := s.membership.RemoveTopic(ctx, "events", false)
	wantRefused(t, err, "has the groups log", "leasehold group remove log")
	_, err = s.membership.RemoveTopic(ctx, "orders", false)
	wantRefused(t, err, "in the config of n1")
	if _, err := s.membership.RemoveTopic(ctx, "nope", false); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("an unknown topic: %v", err)
	}
	if r, err := s.membership.RemoveGroup(ctx, "log", false); err != nil || r.Freed != int64(100*bytesize.MiB) {
		t.Fatalf("%+v, %v", r, err)
	}
	s.wantSize("dlq_log", 0)
	if r, err := s.membership.RemoveTopic(ctx, "events", true); err != nil || r.Removed || r.Messages != 1 ||
		r.Freed != int64(6*bytesize.GiB) {
		t.Fatalf("a dry run: %+v, %v", r, err)
	}
	s.wantSize("events", 6*bytesize.GiB)
	if r, err := s.membership.RemoveTopic(ctx, "events", false); err != nil || !r.Removed || r.Messages != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	s.wantSize("events", 0)
	s.wantSize("orders", 6*bytesize.GiB)
	s.wantSize("dlq_judge", 256*bytesize.MiB)
	s.wantNoWarning("events")
	s.wantNoWarning("wants")
	s.publish("orders.a", 100)
}

// What does not fit is a warning at a raise too: the topic gets what is free, and keeps it through restarts with the
// size left out.
func TestARaiseThatDoesNotFitIsAWarning(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	tables := []string{topicTable("events", `max_bytes = "5GiB"`), topicTable("orders")}
	s.run("", tables...)
	s.run("", topicTable("orders", `max_bytes = "7GiB"`))
	s.wantSize("orders", bytesize.GiB+1228*bytesize.MiB)
	s.wantWarning("topic orders wants 7.0 GiB and has 2.2 GiB", "of max_store 8.0 GiB is free",
		"events 5.0 GiB, in no live node's config")
	s.run("", tables...)
	s.wantSize("orders", bytesize.GiB+1228*bytesize.MiB)
	s.wantWarning("topic orders wants 7.0 GiB")
	s.run("", topicTable("events", `max_bytes = "5GiB"`), topicTable("orders", `max_bytes = "1GiB"`))
	s.wantNoWarning("wants")
	s.run(`max_store = "16GiB"`, topicTable("orders", `max_bytes = "7GiB"`))
	s.wantSize("orders", 7*bytesize.GiB)
	s.wantNoWarning("wants")
	s.run(`max_store = "4GiB"`, topicTable("orders"))
	s.wantSize("orders", 7*bytesize.GiB)
	s.wantWarning("streams may take 13 GiB together, and max_store is 4.0 GiB", "orders 7.0 GiB",
		"events 5.0 GiB, in no live node's config")
}

func TestAFullTopicRefusesPublishesAndIsRaisedByARestart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	// Its one message is not handled: there is no group.
	s.run("", topicTable("orders", `max_bytes = "64KiB"`))
	s.publish("orders.a", 50<<10)
	_, err := s.conns.publish.Publish(t.Context(), "orders.a", make([]byte, 50<<10))
	if err == nil || !strings.Contains(err.Error(), "maximum bytes exceeded") {
		t.Errorf("a full topic answers %v", err)
	}
	s.run("", topicTable("orders", `max_bytes = "1MiB"`))
	s.publish("orders.a", 50<<10)
}

// A node that is down may be back in a moment, with the topic.
func TestATopicOfANodeThatIsDownIsNotRemoved(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.run("", topicTable("orders"), topicTable("events"))
	s.run("", topicTable("orders"))
	rec := lease.Session{
		Version: 1, Node: "n2", Boot: 1, State: lease.Ended, TTL: time.Second, Weight: 1,
		Groups: []string{registry.HousekeepingGroup("events")},
	}
	if _, err := s.kv.Write(t.Context(), lease.Write{Key: lease.SessionKey("n2"), Session: &rec}); err != nil {
		t.Fatal(err)
	}
	_, err := s.membership.RemoveTopic(t.Context(), "events", false)
	wantRefused(t, err, "config of n2, which is down", "leasehold node remove n2")
	s.wantSize("events", bytesize.GiB)
}

// A removal that a crash cut short between the mark and the deletion is shown, and completed by repeating it.
func TestARemovalThatWasCutShortIsCompletedByRepeatingIt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.run("", topicTable("orders"), groupTable("judge", "orders"), topicTable("events"))
	s.run("", topicTable("events"))
	ctx := t.Context()
	for _, err := range []error{
		second(s.registry.RemoveGroup(ctx, "judge", false)), second(s.registry.RemoveTopic(ctx, "orders", false)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.wantWarning("dead letters of judge: the stream is still there", "run `leasehold group remove judge` again")
	s.wantWarning("topic orders: the stream is still there", "run `leasehold topic remove orders` again")
	if _, err := s.membership.RemoveGroup(ctx, "judge", false); err != nil {
		t.Error(err)
	}
	for range 2 {
		if _, err := s.membership.RemoveTopic(ctx, "orders", false); err != nil {
			t.Error(err)
		}
	}
	s.wantSize("dlq_judge", 0)
	s.wantSize("orders", 0)
	s.wantNoWarning("judge")
	s.wantNoWarning("orders")
	list, err := s.reader().TopicList(ctx)
	if err != nil || len(list.Topics) != 2 || list.Topics[1].State != "removed" || list.Topics[1].Error != "" ||
		list.Topics[0].State != "used" {
		t.Errorf("%+v, %v", list, err)
	}
}

func second[T any](_ T, err error) error { return err }

// Removed names are used up: what is stored elsewhere about their sequences would be taken for the new topic's.
func TestARemovedTopicIsRefusedAtStart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.run("", topicTable("orders"), topicTable("events"))
	s.run("", topicTable("events"))
	if _, err := s.membership.RemoveTopic(t.Context(), "orders", false); err != nil {
		t.Fatal(err)
	}
	s.end()
	l := startRun(t, s.load("", topicTable("orders"), topicTable("events")))
	if err := l.waitEnd(t); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), `topic "orders" was removed`) {
		t.Errorf("the node ended with %v", err)
	}
}

// Nodes that die between two steps of the definition of a group leave its stream, or its name in the topic's record.
func TestWhatAGroupLeftThatWasNeverDefinedCanBeRemoved(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.run("", topicTable("orders"))
	ctx := t.Context()
	if _, err := s.setup.joinTopic(ctx, "orders", "named"); err != nil {
		t.Fatal(err)
	}
	opt := stream.DeadLetterOptions{Replicas: 1, Sizing: stream.Sizing{Stated: bytesize.GiB}}
	if _, err := stream.EnsureDeadLetters(ctx, s.conns.operator, "stored", opt); err != nil {
		t.Fatal(err)
	}
	s.wantWarning("group named was only partly created and holds back", "leasehold group remove named")
	s.wantWarning("dead letters of stored", "reserves 1.0 GiB", "leasehold group remove stored")
	list, err := s.reader().GroupList(ctx)
	if err != nil || len(list.Groups) != 2 || list.Groups[0].State+list.Groups[1].State != "unfinishedunfinished" {
		t.Errorf("%+v, %v", list, err)
	}
	for _, group := range []string{"named", "stored"} {
		for _, dry := range []bool{true, false, false} {
			if _, err := s.membership.RemoveGroup(ctx, group, dry); err != nil {
				t.Errorf("%s, dry run %v: %v", group, dry, err)
			}
		}
	}
	s.wantSize("dlq_stored", 0)
	s.wantNoWarning("named")
	s.wantNoWarning("stored")
}

func TestGroupRemovalSaysHowManyDeadLettersItDeletes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.run("", topicTable("orders"), groupTable("judge", "orders"), groupTable("second", "orders"))
	for seq := range uint64(3) {
		place := partitioner.DeadLetterPlace{Group: "second", Kind: partitioner.Dead, LetterKey: "a", Seq: seq + 1}
		if _, err := s.conns.letters.Publish(t.Context(), place.Subject(), nil); err != nil {
			t.Fatal(err)
		}
	}
	s.run("", topicTable("orders"), groupTable("judge", "orders"))
	for _, dry := range []bool{true, false} {
		r, err := s.membership.RemoveGroup(t.Context(), "second", dry)
		if err != nil || r.DeadLetters != 3 || r.Freed != int64(256*bytesize.MiB) || r.Released == dry {
			t.Errorf("dry run %v: %+v, %v", dry, r, err)
		}
		if there := s.size("dlq_second") > 0; there != dry {
			t.Errorf("after dry run %v the stream is there: %v", dry, there)
		}
	}
	list, err := s.reader().GroupList(t.Context())
	i := slices.IndexFunc(list.Groups, func(g api.GroupInfo) bool { return g.Name == "judge" })
	if err != nil || i < 0 || list.Groups[i].DeadLetters != 0 || list.Groups[i].DLQMaxBytes != int64(256*bytesize.MiB) {
		t.Errorf("%+v, %v", list, err)
	}
}

// What a config states counts from its node's start on; what it leaves out stays.
func TestRetainIsTakenFromTheLastConfigThatStatesIt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, step := range []struct {
		line string
		want time.Duration
	}{{"", 0}, {`retain = "24h"`, 24 * time.Hour}, {"", 24 * time.Hour}, {`retain = "1h"`, time.Hour},
		{`retain = "0s"`, 0}, {"", 0}} {
		s.run("", topicTable("orders", step.line))
		f, _, err := newJanitor(s.topics["orders"].Topic, s.registry, s.conns.operator, s.Logger).Finished(t.Context())
		if err != nil || f.Retain != step.want {
			t.Errorf("%q: retain %v, want %v: %v", step.line, f.Retain, step.want, err)
		}
	}
}

// A topic that is removed while a node with it starts ends that node, which would serve a topic that others deleted.
func TestATopicRemovedDuringAStartEndsTheNode(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.run("", topicTable("orders"))
	n := s.Node
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	def, rev, err := n.registry.Topic("orders").Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	def.Removed = true
	if err := n.registry.Topic("orders").Put(ctx, rev, def); err != nil {
		t.Fatal(err)
	}
	if err := n.newConfirmation().Run(ctx); !errors.Is(err, ErrConfig) ||
		!strings.Contains(err.Error(), `topic "orders" was removed`) {
		t.Errorf("confirmed with %v", err)
	}
	if _, err := n.setup.joinTopic(ctx, "orders", "late"); !errors.Is(err, ErrConfig) {
		t.Errorf("a group joins a removed topic: %v", err)
	}
	s.wantWarning("topic orders was removed, and the config of n1 still has it")
}

func containsEach(text string, parts ...string) bool {
	return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(text, p) })
}
