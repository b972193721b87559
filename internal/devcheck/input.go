package devcheck

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"leasehold/internal/lines"
	"leasehold/partitioner"
)

// row is one row of the input.
type row struct {
	id   string
	key  string // As the handler sees it: encoded.
	data string
}

// input is what was published.
type input struct {
	rows  []row
	byKey map[string][]int // Key → indexes of its rows, in order.
	byID  map[string]int
}

// readInput reads the file as `leasehold pub` did.
func readInput(o Options) (*input, error) {
	file, err := os.Open(o.Input)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	in := &input{byKey: map[string][]int{}, byID: map[string]int{}}
	reader := lines.NewReader(file, lines.Options{KeyField: o.KeyField, IDField: o.IDField})
	for {
		record, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", o.Input, err)
		}
		if err := in.add(record); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", o.Input, record.Line, err)
		}
	}
	if len(in.rows) == 0 {
		return nil, fmt.Errorf("%s holds no rows", o.Input)
	}
	return in, nil
}

func (in *input) add(record lines.Record) error {
	if record.Err != nil {
		return record.Err
	}
	key, err := partitioner.EncodeKey(record.Key)
	if err != nil {
		return err
	}
	if _, twice := in.byID[record.ID]; twice {
		return fmt.Errorf("the id %q is there twice, so rows cannot be told apart", record.ID)
	}
	in.byID[record.ID] = len(in.rows)
	in.byKey[key] = append(in.byKey[key], len(in.rows))
	in.rows = append(in.rows, row{id: record.ID, key: key, data: string(record.Data)})
	return nil
}

// eachLine calls f for every line that is not empty, counted from 1; the last one need not end with a line break.
func eachLine(file string, f func(n int, line []byte) error) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	reader := bufio.NewReaderSize(in, 1<<20)
	for n := 1; ; n++ {
		line, err := reader.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read %s: %w", file, err)
		}
		if text := bytes.TrimRight(line, "\r\n"); len(bytes.TrimSpace(text)) > 0 {
			if err := f(n, text); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}

// groupFiles finds the outputs of a group in a directory: TOPIC.GROUP.PARTITION.ndjson.
func groupFiles(dir, group string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for outputs of group %s: %w", group, err)
	}
	var files []string
	for _, e := range entries {
		parts := strings.Split(e.Name(), ".")
		if len(parts) == 4 && parts[1] == group && parts[3] == "ndjson" {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, nil
}
