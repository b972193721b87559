package screen

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"

	"leasehold/internal/printable"
)

// Whole is the title of a column that is never shortened. Where it does not fit beside the others, its text stands
// below the row, wrapped.
type Whole string

// Wide is the title of a column that only -o wide shows.
type Wide string

// gap stands between two columns.
const gap = "  "

// leastColumn is the width to which a column may be shortened.
const leastColumn = 5

// Table prints rows under titles, each of which is a string, a Whole or a Wide. A cell is text, a number, a Number, a
// Cell or a Stamp. On a terminal the table fits; into a pipe, and with SetWide, nothing is cut.
func (s *Writer) Table(titles []any, rows [][]any) error {
	columns := s.columns(titles, rows)
	width, _ := s.Size()
	if width == 0 || s.wide {
		width = total(columns)
	}
	beside, below := columns, []column(nil)
	if total(columns) > width {
		beside, below = split(columns)
		shorten(beside, width)
	}
	var b strings.Builder
	s.line(&b, beside, -1)
	for row := range rows {
		s.line(&b, beside, row)
		for _, c := range below {
			c.below(&b, row, width)
		}
	}
	_, err := io.WriteString(s.w, b.String())
	return err
}

// column is one column with all its cells.
type column struct {
	title string
	whole bool
	right bool // Numbers, aligned at the right.
	cells []Cell
	width int
}

func (s *Writer) columns(titles []any, rows [][]any) []column {
	var out []column
	for i, title := range titles {
		c, empty := column{title: printable.Line(fmt.Sprint(title)), right: len(rows) > 0}, true
		switch title.(type) {
		case Whole:
			c.whole = true
		case Wide:
			if !s.wide {
				continue
			}
		}
		c.width = text.StringWidth(c.title)
		for _, row := range rows {
			cell, number := s.cell(row[i])
			c.cells, c.right = append(c.cells, cell), c.right && number
			c.width = max(c.width, text.StringWidth(cell.text))
			empty = empty && cell.text == ""
		}
		if c.whole && empty && s.Terminal() {
			continue // It would only take width from the others.
		}
		out = append(out, c)
	}
	return out
}

func total(columns []column) int {
	sum := 0
	for i, c := range columns {
		if i > 0 {
			sum += len(gap)
		}
		sum += c.width
	}
	return sum
}

// split takes the columns that go below the rows from the others.
func split(columns []column) (beside, below []column) {
	for _, c := range columns {
		if c.whole {
			below = append(below, c)
		} else {
			beside = append(beside, c)
		}
	}
	return beside, below
}

// shorten takes from the widest column until all fit, or none can give more.
func shorten(columns []column, width int) {
	for total(columns) > width {
		widest := 0
		for i, c := range columns {
			if c.width > columns[widest].width {
				widest = i
			}
		}
		if columns[widest].width <= leastColumn {
			return
		}
		columns[widest].width--
	}
}

// line writes one row, or the titles if row is -1, without blanks at its end.
func (s *Writer) line(b *strings.Builder, columns []column, row int) {
	pending := ""
	for _, c := range columns {
		cell := Cell{text: strings.ToUpper(c.title)}
		if row >= 0 {
			cell = c.cells[row]
		}
		short := text.Snip(cell.text, c.width, "…")
		blanks := strings.Repeat(" ", max(0, c.width-text.StringWidth(short)))
		if short == "" {
			pending += blanks + gap
			continue
		}
		if c.right {
			pending, blanks = pending+blanks, ""
		}
		b.WriteString(pending + s.paint(cell.colour, short))
		pending = blanks + gap
	}
	b.WriteString("\n")
}

// below writes a cell under its row.
func (c column) below(b *strings.Builder, row, width int) {
	cell := c.cells[row]
	if cell.text == "" {
		return
	}
	const indent = "    "
	for i, line := range wrap(c.title+": "+cell.text, width-len(indent)) {
		if i > 0 {
			b.WriteString(gap)
		}
		b.WriteString(indent + line + "\n")
	}
}
