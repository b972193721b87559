package worker

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestEveryKindCarriesTheSameEnvelope holds the JSON, which is spelled apart, to the fields that all else comes from.
func TestEveryKindCarriesTheSameEnvelope(t *testing.T) {
	m := testMessage(3, 1007, "x")
	m.Traceparent, m.Released = "00-ab", true
	text, err := json.Marshal(newMessageLine(m))
	if err != nil {
		t.Fatal(err)
	}
	var line map[string]any
	if err := json.Unmarshal(text, &line); err != nil {
		t.Fatal(err)
	}
	for _, f := range m.fields() {
		name := strings.ToLower(strings.TrimPrefix(varName(f.name), varPrefix))
		if got := fmt.Sprint(line[name]); got != f.value {
			t.Errorf("%s is %q in JSON, %q elsewhere", name, got, f.value)
		}
		if f.name != http.CanonicalHeaderKey(f.name) {
			t.Errorf("%s is not the usual spelling of a header", f.name)
		}
		delete(line, name)
	}
	if rest := slices.Sorted(maps.Keys(line)); fmt.Sprint(rest) != "[data headers traceparent type]" {
		t.Errorf("only in JSON: %v", rest)
	}
}
