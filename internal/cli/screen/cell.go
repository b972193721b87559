package screen

import (
	"fmt"
	"strconv"
	"time"

	"leasehold/internal/printable"
)

// Colour is how urgent a word is.
type Colour int

// Colours.
const (
	Plain  Colour = 0
	Strong Colour = 1
	Red    Colour = 31 // Something needs an operator.
	Green  Colour = 32
	Yellow Colour = 33 // Something should be looked at.
)

// paint colours a word, if colours are wanted.
func (s *Writer) paint(c Colour, word string) string {
	if c == Plain || !s.paints {
		return word
	}
	return "\033[" + strconv.Itoa(int(c)) + "m" + word + "\033[0m"
}

// Cell is a coloured value in a table.
type Cell struct {
	value  any
	text   string // As it is shown.
	colour Colour
}

// Paint makes a Cell of a text, a number or a Stamp.
func Paint(c Colour, value any) Cell { return Cell{value: value, colour: c} }

// Stamp is a time in a table, as RFC 3339: shown as how long ago it was, with -o wide in full in this machine's zone.
type Stamp string

// Number is a number as a table shows it: "1,024", "1.2 MiB". It is aligned like one, and so is a word in its place.
type Number string

// cell makes a value fit to be shown, and reports whether it is a number.
func (s *Writer) cell(v any) (c Cell, number bool) {
	switch v := v.(type) {
	case Cell:
		c, number = s.cell(v.value)
		c.colour = v.colour
		return c, number
	case Stamp:
		return Cell{text: s.stamp(v)}, false
	case Number:
		return Cell{text: printable.Line(string(v))}, true
	case int, int64, uint64, uint, int32, uint32:
		return Cell{text: fmt.Sprint(v)}, true
	}
	return Cell{text: s.shown(fmt.Sprint(v))}, false
}

func (s *Writer) stamp(t Stamp) string {
	at, err := time.Parse(time.RFC3339Nano, string(t))
	switch {
	case err != nil:
		return printable.Line(string(t))
	case s.wide:
		return at.Local().Format("2006-01-02T15:04:05.000Z07:00")
	}
	return Ago(at, time.Now())
}

// Ago is a time as seen from now: "3 min ago", "in 5 s", or its day if that is more than a month away.
func Ago(at, now time.Time) string {
	d := now.Sub(at)
	text := ""
	switch abs := d.Abs(); {
	case abs < time.Second:
		return "now"
	case abs < time.Minute:
		text = strconv.Itoa(int(abs.Seconds())) + " s"
	case abs < time.Hour:
		text = strconv.Itoa(int(abs.Minutes())) + " min"
	case abs < 48*time.Hour:
		text = strconv.Itoa(int(abs.Hours())) + " h"
	case abs < 31*24*time.Hour:
		text = strconv.Itoa(int(abs.Hours()/24)) + " days"
	default:
		return at.Local().Format(time.DateOnly)
	}
	if d < 0 {
		return "in " + text
	}
	return text + " ago"
}
