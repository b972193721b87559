package devcheck

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

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

func readInput(o Options) (*input, error) {
	in := &input{byKey: map[string][]int{}, byID: map[string]int{}}
	err := eachLine(o.Input, func(n int, line []byte) error {
		r, err := newRow(line, o)
		if err != nil {
			return fmt.Errorf("%s:%d: %w", o.Input, n, err)
		}
		if _, twice := in.byID[r.id]; twice {
			return fmt.Errorf("%s:%d: the id %q is there twice, so rows cannot be told apart", o.Input, n, r.id)
		}
		in.byID[r.id] = len(in.rows)
		in.byKey[r.key] = append(in.byKey[r.key], len(in.rows))
		in.rows = append(in.rows, r)
		return nil
	})
	if err == nil && len(in.rows) == 0 {
		err = fmt.Errorf("%s holds no rows", o.Input)
	}
	return in, err
}

func newRow(line []byte, o Options) (row, error) {
	raw, err := field(line, o.KeyField)
	if err != nil {
		return row{}, err
	}
	key, err := partitioner.EncodeKey(raw)
	if err != nil {
		return row{}, err
	}
	id, err := field(line, o.IDField)
	return row{id: id, key: key, data: string(line)}, err
}

// field finds a.b in a row and spells its value.
func field(line []byte, path string) (string, error) {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return "", fmt.Errorf("row is not JSON: %w", err)
	}
	for _, name := range strings.Split(path, ".") {
		object, ok := value.(map[string]any)
		if !ok || object[name] == nil {
			return "", fmt.Errorf("row has no field %q", path)
		}
		value = object[name]
	}
	return fmt.Sprint(value), nil
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
