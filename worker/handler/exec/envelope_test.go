package exec

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"leasehold/worker/handler/wire"
	"leasehold/worker/workertest"
)

// TestEveryKindCarriesTheSameEnvelope holds the JSON, which is spelled apart, to the fields that all else comes from.
func TestEveryKindCarriesTheSameEnvelope(t *testing.T) {
	m := workertest.Message(3, 1007, "x")
	m.Traceparent, m.Released = "00-ab", true
	text, err := json.Marshal(wire.NewMessageLine(m))
	if err != nil {
		t.Fatal(err)
	}
	var line map[string]any
	if err := json.Unmarshal(text, &line); err != nil {
		t.Fatal(err)
	}
	for _, f := range m.Envelope() {
		name := strings.ToLower(strings.TrimPrefix(varName(f.Name), varPrefix))
		if got := fmt.Sprint(line[name]); got != f.Value {
			t.Errorf("%s is %q in JSON, %q elsewhere", name, got, f.Value)
		}
		if f.Name != http.CanonicalHeaderKey(f.Name) {
			t.Errorf("%s is not the usual spelling of a header", f.Name)
		}
		delete(line, name)
	}
	if rest := slices.Sorted(maps.Keys(line)); fmt.Sprint(rest) != "[data headers traceparent type]" {
		t.Errorf("only in JSON: %v", rest)
	}
}
