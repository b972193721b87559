package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"leasehold/internal/jsondata"
)

// maxBody bounds the JSON of a request.
const maxBody = 1 << 20

// readBody reads a JSON object into a struct. It refuses what would be passed over in silence, and what could mean
// either nothing or everything: null, and an empty list.
func readBody(r *http.Request, into any) error {
	text, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return badRequest("read the body: %s", err)
	}
	if len(text) > maxBody {
		return Mark(ErrTooLarge, fmt.Sprintf("the body has more than %d bytes", maxBody))
	}
	if err := jsondata.CheckStart(text); err != nil {
		return badRequest("the body is %s", err)
	}
	text = jsondata.TrimBOM(text)
	fields, err := jsondata.Object(text)
	if err == nil {
		err = checkFields(fields, jsonNames(into))
	}
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return badRequest("body: %s", err)
	}
	return nil
}

func checkFields(fields map[string]json.RawMessage, known []string) error {
	for name, value := range fields {
		switch {
		case !slices.Contains(known, name):
			return fmt.Errorf("field %q is not one of %s", name, strings.Join(known, ", "))
		case string(value) == "null":
			return fmt.Errorf("field %q is null: give it a value or leave it out", name)
		case value[0] == '[' && len(bytes.TrimSpace(value[1:len(value)-1])) == 0:
			return fmt.Errorf("field %q is an empty list: list at least one value", name)
		}
	}
	return nil
}

// jsonNames lists the fields of the struct that v points to. The decoder would take them in any case of letters.
func jsonNames(v any) (names []string) {
	t := reflect.TypeOf(v).Elem()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}
