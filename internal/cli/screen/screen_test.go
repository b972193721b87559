package screen

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"leasehold/internal/cli/screen/screentest"
)

// onTerminal is what a terminal of a width gets.
func onTerminal(t *testing.T, width int, show func(s *Writer)) string {
	t.Helper()
	t.Setenv("TERM", "xterm")
	terminal, read := screentest.Open(t, width)
	show(New(terminal))
	return read()
}

func piped(show func(s *Writer)) string {
	var b bytes.Buffer
	show(New(&b))
	return b.String()
}

const longError = "database constraint orders_total_positive violated: total is -7 in order 1007 of customer c-17, " +
	"see\x1b[2J `leasehold dlq show billing 12`"

func letters(s *Writer) {
	_ = s.Table([]any{"number", "kind", "reason", "message", "key", Wide("node"), "last failure", Whole("error")}, [][]any{
		{12, Paint(Red, "dead"), "max_attempts", "orders/3/1007", "c-17", "n1",
			Stamp(time.Now().Add(-3 * time.Minute).Format(time.RFC3339Nano)), longError},
		{7, Paint(Red, "dead"), "rejected", "orders/12/998", "a key that is much too long for a column\nOK: forged", "n1",
			Stamp(""), "no"},
	})
}

func TestATableFitsTheTerminalAndKeepsWhatMattersWhole(t *testing.T) {
	for _, width := range []int{80, 60, 132, 0} {
		got := onTerminal(t, width, letters)
		most := width
		if width == 0 {
			most = 80
		}
		for _, line := range strings.Split(got, "\n") {
			if text.StringWidthWithoutEscSequences(line) > most {
				t.Errorf("width %d: too long: %q", width, line)
			}
		}
		joined := strings.Join(strings.Fields(got), " ")
		for _, part := range []string{"customer c-17, see\\u001b[2J `leasehold dlq show billing 12`", "\033[31mdead\033[0m",
			"3 min ago", "orders/3/1007"} {
			if !strings.Contains(joined, part) && width != 60 {
				t.Errorf("width %d: no %q in\n%s", width, part, got)
			}
		}
		if strings.Contains(got, "\nOK") || strings.Contains(got, "NODE") {
			t.Errorf("width %d:\n%s", width, got)
		}
	}
}

func TestAPipeGetsWholeRowsWithoutColours(t *testing.T) {
	got := piped(letters)
	want := "NUMBER  KIND  REASON        MESSAGE        KEY                                                  LAST " +
		"FAILURE  ERROR\n"
	if !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 3 || strings.ContainsAny(got, "\x1b…") {
		t.Errorf("got\n%s", got)
	}
}

func TestNumbersAreAlignedAtTheRightHoweverTheyAreShown(t *testing.T) {
	got := piped(func(s *Writer) {
		_ = s.Table([]any{"group", "lag", "size", "done"}, [][]any{
			{"audit", Number("1,024"), Number("1.2 MiB"), 12}, {"b", Number("unknown"), Paint(Red, Number("7 B")), 1007},
		})
	})
	want := "GROUP      LAG     SIZE  DONE\naudit    1,024  1.2 MiB    12\nb      unknown      7 B  1007\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestWideShowsEveryColumnAndFullTimes(t *testing.T) {
	got := onTerminal(t, 80, func(s *Writer) { s.SetWide(); letters(s) })
	if !strings.Contains(got, "NODE") || strings.Contains(got, "ago") || strings.Count(got, "\n") != 3 ||
		strings.Contains(got, "…") {
		t.Errorf("got\n%s", got)
	}
}

func TestColoursAreForTerminalsThatWantThem(t *testing.T) {
	say := func(s *Writer) { _ = s.Say(Red, "NOT OK:", "n2 is dead") }
	if got := onTerminal(t, 80, say); got != "\033[31mNOT OK:\033[0m n2 is dead\n" {
		t.Errorf("terminal: %q", got)
	}
	if got := piped(say); got != "NOT OK: n2 is dead\n" {
		t.Errorf("pipe: %q", got)
	}
	for name, value := range map[string]string{"NO_COLOR": "1", "TERM": "dumb"} {
		t.Run(name, func(t *testing.T) {
			terminal, read := screentest.Open(t, 80)
			t.Setenv("TERM", "xterm")
			t.Setenv(name, value)
			say(New(terminal))
			if got := read(); strings.Contains(got, "\033") {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestNothingOfOthersSteersTheTerminal(t *testing.T) {
	evil := "\x1b[31mred\x1b]0;title\a\u009b2J\u202e\x9b"
	got := onTerminal(t, 80, func(s *Writer) {
		_, _ = io.WriteString(s, evil)
		_, _ = io.WriteString(s.Onto(s.Raw()), evil)
		_ = s.Say(Plain, evil, evil)
		_ = s.Fit(evil)
		_ = s.Table([]any{evil, Whole(evil)}, [][]any{{evil, evil}, {Paint(Plain, evil), Stamp(evil)}})
	})
	if strings.ContainsAny(got, "\x1b\a\u009b\u202e") || strings.Contains(got, "\x9b") {
		t.Errorf("got %q", got)
	}
}

func TestARuneInTwoWritesStaysOne(t *testing.T) {
	got := piped(func(s *Writer) {
		for _, b := range []byte("ü\u009b日") {
			_, _ = s.Write([]byte{b})
		}
		_, _ = s.Write([]byte{0xe6})
		s.Flush()
	})
	if got != `ü\u009b日\xe6` {
		t.Errorf("got %q", got)
	}
}

func TestACommandIsNotBroken(t *testing.T) {
	got := wrap("group billing: partition 3 is blocked; fix it, then `leasehold resume billing --partition 3`, and look "+
		"again", 60)
	want := "group billing: partition 3 is blocked; fix it, then|`leasehold resume billing --partition 3`, and look again"
	if strings.Join(got, "|") != want {
		t.Errorf("got %q", got)
	}
}

func TestAFieldIsWrappedBesideItsName(t *testing.T) {
	got := onTerminal(t, 40, func(s *Writer) { _ = s.Field("error", "total is -7 in order 1007 of\ncustomer c-17") })
	if got != "error         total is -7 in order 1007\n              of customer c-17\n" {
		t.Errorf("got %q", got)
	}
	if got := piped(func(s *Writer) { _ = s.Field("error", longError) }); strings.Count(got, "\n") != 1 {
		t.Errorf("got %q", got)
	}
}

func TestTimesAreTold(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for ago, want := range map[time.Duration]string{
		0: "now", 12 * time.Second: "12 s ago", 3 * time.Minute: "3 min ago", 30 * time.Hour: "30 h ago",
		72 * time.Hour: "3 days ago", -5 * time.Second: "in 5 s", 100 * 24 * time.Hour: "2026-08-21",
	} {
		if got := Ago(now.Add(-ago), now); got != want {
			t.Errorf("%s: %q, want %q", ago, got, want)
		}
	}
}
